#!/usr/bin/env bash
# mkdocs-material 9.8.2 (mkdocs 1.6.1): its plugin "offline", for a site that is read from a folder without a web server. One
# expects pages that need no network. With it each page gets a script of unpkg.com (for workers, which a browser refuses to
# files); without the plugin no page loads anything from elsewhere (fonts off).
# Seen: without 0 pages, with it 1 of 1 ask unpkg.com.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q mkdocs==1.6.1 mkdocs-material==9.8.2
cd "$work"
mkdir docs; echo "# A page" > docs/index.md
for plugins in "[search]" "[search, offline]"; do
    printf 'site_name: s\nuse_directory_urls: false\ntheme: {name: material, font: false}\nplugins: %s\n' "$plugins" > mkdocs.yml
    NO_MKDOCS_2_WARNING=1 env/bin/mkdocs build -q -d "site $plugins"
    echo "$plugins: $(grep -c 'src="https://unpkg.com/' "site $plugins/index.html" || true) from unpkg.com"
done | tee seen
diff seen - <<'SEEN'
[search]: 0 from unpkg.com
[search, offline]: 1 from unpkg.com
SEEN
echo "as described"
