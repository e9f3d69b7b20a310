#!/bin/sh
# Makes a key for each role, and trusted-keys.toml, which says what each may vouch for.
#
#   sh make-keys.sh        in the repository that holds the configuration
#
# Commit trusted-keys.toml. Put each `keys/*.pem` (not the `.pub.pem`) into a secret of your CI, and
# then away from this machine: FIREBRAND_TRAIN_KEY, FIREBRAND_GATE_KEY, FIREBRAND_PROMOTE_KEY.
set -eu
mkdir -p keys
: > trusted-keys.toml
for role in train gate promote; do
  hint=$(firebrand keygen "keys/$role.pem")
  {
    echo "# $hint"
    echo "[[key]]"
    echo "roles = [\"$role\"]"
    echo "pem = '''"
    cat "keys/$role.pub.pem"
    echo "'''"
    echo
  } >> trusted-keys.toml
done
echo "keys/" >> .gitignore
