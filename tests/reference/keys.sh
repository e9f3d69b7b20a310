#!/bin/sh
# Makes tests/fixtures/keys: one key under the password "correct horse", in every form that OpenSSL
# writes. The key is new each time. Made with OpenSSL 3.0.19.
set -e
cd "$(dirname "$0")/../fixtures/keys"
plain=$(mktemp)
trap 'rm -f "$plain"' EXIT
openssl ecparam -name prime256v1 -genkey -noout -out "$plain"
openssl ec -in "$plain" -pubout -out public.pem
encrypt() { # NAME OPTIONS...
  name=$1
  shift
  openssl pkcs8 -topk8 -in "$plain" -passout "pass:correct horse" "$@" -out "$name.pem"
}
encrypt scrypt -scrypt
encrypt pbkdf2-aes128 -v2 aes-128-cbc
encrypt pbkdf2-aes192 -v2 aes-192-cbc
encrypt pbkdf2-aes256 -v2 aes-256-cbc
encrypt pbkdf2-sha512 -v2 aes-256-cbc -v2prf hmacWithSHA512
encrypt pbkdf2-3des -v2 des3
encrypt pbe-3des -v1 PBE-SHA1-3DES
openssl ec -in "$plain" -aes256 -passout "pass:correct horse" -out legacy.pem
