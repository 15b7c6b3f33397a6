"""The tests, one folder for each layer; `support` is what they share."""
