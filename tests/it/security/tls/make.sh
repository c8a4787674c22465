#!/usr/bin/env bash
# Makes the certificates of the TLS tests anew: needs OpenSSL 3. The keys guard nothing: they are those of servers on
# loopback that live as long as a test.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$(mktemp -d)"
mkdir new && touch index
cat >ca.cnf <<'END'
[ca]
default_ca = test
[test]
database = index
new_certs_dir = new
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
END

# certificate NAME EXTENSIONS FROM TO SIGNER: NAME.crt and NAME.key.
certificate() {
    local signer=(-cert ca.crt -keyfile ca.key)
    [ "$5" = ca ] || signer=(-selfsign -keyfile "$1.key")
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=llbatch test $1" -out "$1.csr"
    printf '%b\n' "$2" >"$1.ext"
    openssl ca -batch -notext -config ca.cnf -in "$1.csr" "${signer[@]}" -extfile "$1.ext" -startdate "$3" -enddate "$4" \
        -out "$1.crt"
}

from=20250101000000Z to=21250101000000Z
server='basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName='
hosts=DNS:localhost,IP:127.0.0.1,DNS:api.llbatch.test
certificate ca 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign' $from $to itself
certificate good "$server$hosts" $from $to ca
certificate expired "$server$hosts" 20000101000000Z 20010101000000Z ca
certificate other-host "${server}DNS:other.llbatch.test" $from $to ca
certificate self-signed "$server$hosts" $from $to itself
certificate own-authority "basicConstraints=critical,CA:TRUE\nsubjectAltName=$hosts" $from $to itself
cp ca.crt "$here/ca.pem"
for name in good expired other-host self-signed own-authority; do cat "$name.crt" "$name.key" >"$here/$name.pem"; done
