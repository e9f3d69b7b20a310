#!/bin/sh
# Makes a key for each role, and trusted-keys.toml, which says what each may vouch for.
#
#   sh make-keys.sh        in the repository that holds the configuration
#
# Commit trusted-keys.toml. Put each `keys/*.pem` (not the `.pub.pem`) into a secret of your CI, and
# then away from this machine: FIREBRAND_TRAIN_KEY, FIREBRAND_GATE_KEY, FIREBRAND_PROMOTE_KEY.
# A key or an entry that is there stays as it is: to run it again changes nothing.
set -eu
mkdir -p keys
new=trusted-keys.toml.new
if [ -e trusted-keys.toml ]; then cp trusted-keys.toml "$new"; else : > "$new"; fi
trap 'rm -f "$new"' EXIT
for role in train gate promote; do
  public="keys/$role.pub.pem"
  if [ ! -e "$public" ] && grep -q "^roles = .*\"$role\"" "$new"; then
    echo "trusted-keys.toml has a key for the role $role already, and $public is not here." >&2
    echo "To use another one, remove that entry first; models that it signed then count no more." >&2
    exit 1
  fi
  if [ ! -e "$public" ]; then firebrand keygen "keys/$role.pem" > /dev/null; fi
  # The second line of a PEM file is the key's own.
  if grep -qF "$(sed -n 2p "$public")" "$new"; then continue; fi
  {
    echo "[[key]]"
    echo "roles = [\"$role\"]"
    echo "pem = '''"
    cat "$public"
    echo "'''"
    echo
  } >> "$new"
done
if ! cmp -s "$new" trusted-keys.toml; then mv "$new" trusted-keys.toml; fi
if ! grep -qx "keys/" .gitignore 2> /dev/null; then
  # On a line of its own, also after a file without an end of line.
  if [ -s .gitignore ] && [ -n "$(tail -c 1 .gitignore)" ]; then echo >> .gitignore; fi
  echo "keys/" >> .gitignore
fi
