#!/usr/bin/env bash
# Makes each package of llbatch that can be made here, installs it where nothing else is, and runs the start of README: two commands,
# the second of which answers 20 rows. What cannot be made is said, and skipped.
#
#   tests/packages/run.sh [--profile PROFILE]       makes the packages of a build of that profile (default: dist)
#   tests/packages/run.sh --made DIR                installs packages that are there already
#
# wheel  needs Python with venv and a package index (maturin). `--zig` also links it against glibc 2.17 (ziglang, a build of its own)
# npm    needs Node and npm, and installs without a network
# tar    needs nothing: the archive that `cargo binstall` takes
# deb    needs cargo-deb (cargo install cargo-deb) and dpkg
# image  needs a Docker daemon that reaches its registry. `--static BINARY`, without one: buildah puts that binary, linked statically,
#        into the last stage of the Dockerfile, and starts it twice as the image's user, with the state as a volume
#        (`cargo rustc --bin llbatch -- -C target-feature=+crt-static` makes one)
#
# PACKAGES_REQUIRED=wheel,npm,tar names those whose absence is an error.
set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
profile=dist zig= made= static=
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=$2; shift ;;
        --made) made=$(realpath "$2"); shift ;;
        --zig) zig=1 ;;
        --static) static=$(realpath "$2"); shift ;;
        *) sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift
done
target=${CARGO_TARGET_DIR:-$top/target}
case $profile in dev) built=$target/debug ;; *) built=$target/$profile ;; esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work" "$top/llbatch.data"' EXIT
dist=${made:-$work/dist}
mkdir -p "$dist"
passed=() skipped=()

fail() { echo "packages: $1" >&2; exit 1; }
skip() {
    case ,${PACKAGES_REQUIRED:-}, in *,$1,*) fail "$1: $2" ;; esac
    echo "packages: $1 skipped: $2" >&2
    skipped+=("$1")
}
have() { command -v "$1" >/dev/null; }
# Packages that are not in the directory of --made are skipped, as those that cannot be made.
lacks() { [ -n "$made" ] && ! compgen -G "$dist/$2" >/dev/null && skip "$1" "there is no $2 in $dist"; }

# The two-command start, with an environment of its own. `$1`: the package's name, then the command.
start() {
    local name=$1 dir=$work/start-$1
    shift
    mkdir -p "$dir/home"
    cp -r "$top/samples" "$dir"
    local clean=(env -i "HOME=$dir/home" "PATH=/usr/bin:/bin" "LANG=C.UTF-8")
    (cd "$dir" && "${clean[@]}" "$@" run samples/prompts.jsonl --sandbox -o out.jsonl) 2>"$dir/said" ||
        { cat "$dir/said" >&2; fail "$name: the start ended with $?"; }
    [ "$(wc -l <"$dir/out.jsonl")" = 20 ] || fail "$name: not 20 rows"
    grep -q '20 of 20 answered' "$dir/said" || { cat "$dir/said" >&2; fail "$name: no last line"; }
    [ "$("${clean[@]}" "$@" --version)" = "llbatch $version" ] || fail "$name: another version"
    passed+=("$name")
    echo "packages: $name: installed, 20 of 20 rows answered"
}

# Completions and man pages came along.
came() {
    local name=$1 share=$2
    [ -s "$share/man/man1/llbatch-run.1" ] || [ -s "$share/man/man1/llbatch-run.1.gz" ] || fail "$name: no man pages in $share"
    [ -s "$share/bash-completion/completions/llbatch" ] || fail "$name: no completions in $share"
}

wheel() {
    lacks wheel '*.whl' && return
    python3 -c 'import venv' 2>/dev/null || { skip wheel "there is no Python with venv"; return; }
    if [ -z "$made" ]; then
        python3 -m venv "$work/maturin"
        "$work/maturin/bin/pip" install -q maturin ${zig:+ziglang} 2>"$work/pip.log" ||
            { skip wheel "maturin cannot be installed: $(tail -n 1 "$work/pip.log")"; return; }
        "$top/.ci/package" wheel-data "$built/llbatch"
        # Without zig the wheel is for this machine alone, and is not held against an old glibc.
        local how=(--auditwheel skip)
        [ -n "$zig" ] && how=(--zig --compatibility manylinux2014 --target "$(rustc -vV | sed -n 's/^host: //p')")
        (cd "$top" && PATH=$work/maturin/bin:$PATH "$work/maturin/bin/maturin" build -q --profile "$profile" --out "$dist" "${how[@]}") ||
            fail "wheel: maturin failed"
    fi
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q --no-index --no-deps "$dist"/*.whl || fail "wheel: pip failed"
    if [ -n "$zig" ]; then
        local most
        most=$(objdump -T "$work/venv/bin/llbatch" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
        [ "$(printf '%s\n' "$most" GLIBC_2.17 | sort -V | tail -n 1)" = GLIBC_2.17 ] || fail "wheel: needs $most"
        echo "packages: wheel: needs $most at most: $(ls "$dist"/*.whl)"
    fi
    came wheel "$work/venv/share"
    start wheel "$work/venv/bin/llbatch"
}

npm_package() {
    lacks npm 'llbatch-[0-9]*.tgz' && return
    have npm || { skip npm "there is no npm"; return; }
    if [ -z "$made" ]; then
        "$top/.ci/package" npm "$built/llbatch" linux-x64 "$work/npm"
        (cd "$dist" && npm pack --silent "$work/npm/llbatch" "$work/npm/llbatch-linux-x64" >/dev/null)
    fi
    mkdir -p "$work/node"
    # Scripts are off: nothing may need one. The packages of other platforms are not there.
    (cd "$work/node" && npm install --silent --offline --ignore-scripts --no-audit --no-fund \
        "$dist/llbatch-$version.tgz" "$dist/llbatch-linux-x64-$version.tgz" >"$work/npm.log" 2>&1) ||
        { cat "$work/npm.log" >&2; fail "npm: the installation failed"; }
    came npm "$work/node/node_modules/llbatch/share"
    start npm "$work/node/node_modules/.bin/llbatch"
    # The launcher has become llbatch: a signal reaches it, and its exit code comes back.
    (cd "$work" && env -i "HOME=$work" "PATH=/usr/bin:/bin" LLBATCH_SANDBOX=latency=5s \
        node/node_modules/.bin/llbatch run "$top/samples/prompts.jsonl" --sandbox --concurrency 1 -o slow.jsonl 2>slow.log) &
    local run=$! code=0
    for _ in $(seq 200); do grep -q '^job ' "$work/slow.log" 2>/dev/null && break; sleep 0.1; done
    pkill -TERM -P "$run" || fail "npm: no child of $run"
    wait "$run" || code=$?
    [ "$code" = 143 ] || { cat "$work/slow.log" >&2; fail "npm: SIGTERM ended with $code, not 143"; }
}

archive() {
    local host
    host=$(uname -m)-unknown-linux-gnu
    [ -n "$made" ] || "$top/.ci/package" tar "$built/llbatch" "$host" "$dist" >/dev/null
    mkdir -p "$work/tar"
    tar -C "$work/tar" -xzf "$dist/llbatch-$version-$host.tar.gz"
    came tar "$work/tar/llbatch-$version-$host/share"
    start tar "$work/tar/llbatch-$version-$host/llbatch"
}

deb() {
    lacks deb '*.deb' && return
    have dpkg || { skip deb "there is no dpkg"; return; }
    if [ -z "$made" ]; then
        have cargo-deb || { skip deb "there is no cargo-deb (cargo install cargo-deb)"; return; }
        mkdir -p "$top/target"
        "$top/.ci/package" deb "$built/llbatch" "$top/target/package"
        (cd "$top" && cargo deb -q --no-build --no-strip --profile "$profile" --output "$dist") || fail "deb: cargo-deb failed"
    fi
    local root=$work/deb
    mkdir -p "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/info"
    touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
    dpkg --root="$root" --force-depends --force-script-chrootless --log=/dev/null -i "$dist"/*.deb >"$work/dpkg.log" 2>&1 ||
        { cat "$work/dpkg.log" >&2; fail "deb: dpkg failed"; }
    came deb "$root/usr/share"
    start deb "$root/usr/bin/llbatch"
}

image() {
    if [ -n "$static" ]; then
        last_stage
        return
    fi
    docker info >/dev/null 2>&1 || { skip image "there is no Docker daemon, and no --static"; return; }
    docker build -q -t llbatch-test "$top" >/dev/null || { skip image "its base images cannot be had"; return; }
    docker run --rm -v "$top/samples:/data:ro" llbatch-test run prompts.jsonl --sandbox >"$work/image.jsonl" || fail "image: the start failed"
    [ "$(wc -l <"$work/image.jsonl")" = 20 ] || fail "image: not 20 rows"
    [ "$(docker inspect -f '{{.Config.User}}' llbatch-test)" = 65532:65532 ] || fail "image: another user"
    passed+=(image)
}

# The last stage of the Dockerfile around a binary that is there. The stage before it, which builds, needs a registry.
last_stage() {
    have buildah || { skip image "there is no buildah"; return; }
    local root=$work/root store=(--root "$work/store" --runroot "$work/runroot" --storage-driver vfs) container
    mkdir -p "$root"/image/{state,data,tmp} "$root/etc/ssl/certs" "$work/volume" "$work/data"
    chmod 1777 "$root/image/tmp"
    install -m 755 "$static" "$root/image/llbatch"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    cp "$top/samples/prompts.jsonl" "$work/data"
    chown 65532:65532 "$work/volume" "$work/data"
    { printf 'FROM scratch AS build\nCOPY . /\n'; sed -n '/^FROM scratch$/,$p' "$top/Dockerfile"; } >"$work/Dockerfile"
    buildah "${store[@]}" bud -q --isolation chroot -t llbatch-test -f "$work/Dockerfile" "$root" >/dev/null || fail "image: buildah failed"
    container=$(buildah "${store[@]}" from llbatch-test)
    [ "$(buildah "${store[@]}" inspect -f '{{.OCIv1.Config.User}}' "$container")" = 65532:65532 ] || fail "image: another user"
    inside() {
        buildah "${store[@]}" run --isolation chroot -v "$work/volume:/state" -v "$work/data:/data" "$container" -- /usr/bin/llbatch "$@"
    }
    inside run prompts.jsonl --sandbox -o out.jsonl 2>"$work/image.said" || { cat "$work/image.said" >&2; fail "image: the start failed"; }
    [ "$(wc -l <"$work/data/out.jsonl")" = 20 ] || fail "image: not 20 rows"
    [ "$(stat -c %u "$work/data/out.jsonl" "$work/volume"/* | sort -u)" = 65532 ] || fail "image: files of another user"
    buildah "${store[@]}" rm "$container" >/dev/null
    # A new container finds the job in the volume.
    container=$(buildah "${store[@]}" from llbatch-test)
    inside status last --json | grep -q '"succeeded": 20' || fail "image: the job is not in the volume"
    buildah "${store[@]}" rm -a >/dev/null
    passed+=(image)
    echo "packages: image: its last stage built, 20 of 20 rows answered as 65532, the job found by a second container"
}

if [ -z "$made" ]; then
    (cd "$top" && cargo build -q --locked --profile "$profile") || fail "the build failed"
fi
wheel
npm_package
archive
deb
image
echo "packages: well: ${passed[*]:-none}; skipped: ${skipped[*]:-none}"
