# Before a block of shell code: each program that a page may call only notes its arguments.
note() { printf '%s\037' "$@" >> "$NOTES"; printf '\036' >> "$NOTES"; }
for program in $PROGRAMS; do eval "$program() { note $program \"\$@\"; }"; done
which() { echo "$1"; }
command_not_found_handle() { echo "no rule for $1: see PROGRAMS in test_commands.py" >&2; exit 127; }
PATH=/nonexistent
