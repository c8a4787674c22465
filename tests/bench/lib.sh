# shellcheck shell=bash
# What the scripts in tests/bench and tests/limiter/run.sh share: set-up and clean-up, processes, nginx, facts of the machine.
#
# Everything runs as a background job that is waited for, so that a signal is acted on at once; everything that was
# started is stopped by its own process id when the script ends, however it ends.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
MEASURE=$ROOT/tests/bench/measure.py
export PYTHONDONTWRITEBYTECODE=1
MODEL=meta-llama/Llama-3.2-3B-Instruct-Turbo
# A realistic answer, about 550 bytes; single quotes and dollars would have to be escaped for nginx.
# shellcheck disable=SC2034 # used by the scripts that source this
COMPLETION='{"id":"o1abc","object":"chat.completion","created":1767225600,"model":"'$MODEL'","prompt":[],"choices":[{"index":0,"message":{"role":"assistant","content":"The quick brown fox jumps over the lazy dog, and then it sits down to write a sentence that is long enough to look like an answer of a small language model to a simple question about animals and what they do all day.","tool_calls":[]},"logprobs":null,"finish_reason":"stop","seed":null}],"usage":{"prompt_tokens":212,"completion_tokens":50,"total_tokens":262}}'

# nginx is there, and a user's path may not have it.
PATH=$PATH:/usr/sbin
PIDS=()
# Seconds that processes get to end when they are told to.
GRACE=20
TMP=''

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
usage_error() { say "error: $1; --help tells more"; exit 2; }
number() { [[ $1 =~ ^[1-9][0-9]*$ ]] || usage_error "$2 takes a whole number, not '$1'"; }

need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || die "$tool is missing (Debian: apt-get install nginx-light libnginx-mod-http-echo wrk python3)"
    done
}

# Starts a command whose process this script owns; its id is in $!.
start() { "$@" & PIDS+=("$!"); }

# Runs a command to its end and returns its status.
await() {
    local status=0
    start "$@"
    wait "$!" || status=$?
    unset 'PIDS[-1]'
    return "$status"
}

# Stops one process that was started here, and waits until it is gone. stop PID [SIGNAL]
stop() {
    local pid kept=()
    kill -s "${2:-TERM}" "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    for pid in "${PIDS[@]}"; do [[ $pid == "$1" ]] || kept+=("$pid"); done
    PIDS=("${kept[@]}")
}

cleanup() {
    local status=$? pid end=$((SECONDS + GRACE))
    trap '' INT TERM HUP
    trap - EXIT
    for pid in "${PIDS[@]}"; do kill -s TERM "$pid" 2>/dev/null || true; done
    for pid in "${PIDS[@]}"; do
        while kill -0 "$pid" 2>/dev/null && ((SECONDS < end)); do sleep 0.1; done
        kill -s KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [[ -n $TMP ]]; then rm -rf "$TMP"; fi
    exit "$status"
}

on_exit() {
    trap cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# A temporary directory on the disk that holds the project ($TMPDIR wins): the journal's fsync must be a real one.
# Then an environment without the caller's key, proxies, configuration and jobs, and enough file descriptors.
# prepare NAME [FILE-DESCRIPTORS]
prepare() {
    local base=${TMPDIR:-$ROOT/target} least=${2:-4096} files
    mkdir -p "$base"
    TMP=$(mktemp -d "$base/llbatch-$1.XXXXXX")
    on_exit
    files=$(ulimit -Hn)
    if [[ $files == unlimited ]] || ((files > 65536)); then files=65536; fi
    ulimit -Sn "$files"
    ((files > least)) || die "more than $least open files are needed, the limit is $files (ulimit -Hn)"
    unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY LLBATCH_CONFIG LLBATCH_STATE_DIR TOGETHER_BASE_URL
    export TOGETHER_API_KEY=no-real-key XDG_CONFIG_HOME=$TMP/config XDG_STATE_HOME=$TMP/state-home
}

# Profile of the binaries that are measured.
PROFILE=dist

# Sets BIN to the binary of the profile PROFILE, built now unless one was given. release_binary FILE [CARGO-OPTION...]
release_binary() {
    if [[ -n $1 ]]; then
        BIN=$(realpath "$1")
        [[ -x $BIN ]] || die "$1 is no executable"
        return
    fi
    need cargo
    say "building the binary"
    # From the project's own directory, for its .cargo/config.toml.
    await env -C "$ROOT" cargo build --profile "$PROFILE" --locked --quiet "${@:2}" || die "the build failed"
    BIN=${CARGO_TARGET_DIR:-$ROOT/target}/$PROFILE/llbatch
}

# Starts `llbatch serve` with further arguments. Its process is in SERVER, its address in URL.
serve() {
    start "$BIN" serve "$@" >"$TMP/url" 2>"$TMP/serve.log"
    SERVER=$!
    local tries=100
    until [[ -s $TMP/url ]]; do
        kill -0 "$SERVER" 2>/dev/null && ((tries-- > 0)) || { cat "$TMP/serve.log" >&2; die 'the server does not start'; }
        sleep 0.1
    done
    # shellcheck disable=SC2034 # used by the scripts that source this
    URL=$(<"$TMP/url")
}

# Reads the options of a script that measures into bin, rows and pairs; its one switch, named $1, into the variable of that
# name. options SWITCH "$@"
options() {
    local switch=$1
    shift
    while (($#)); do
        case $1 in --bin | --pairs | --rows) (($# > 1)) || usage_error "$1 takes a value" ;; esac
        case $1 in
            # shellcheck disable=SC2034 # used by the scripts that source this
            --bin) bin=$2; shift ;;
            --rows | --pairs) number "$2" "$1"; printf -v "${1#--}" %s "$2"; shift ;;
            "--$switch") printf -v "$switch" 1 ;;
            -h | --help) usage; exit 0 ;;
            *) usage_error "unknown option $1" ;;
        esac
        shift
    done
}

# Runs a command to its end; sets WALL, CPU (s) and PEAK (KiB). Its output is in run.log. measure NAME CMD...
measure() {
    local name=$1 exit
    shift
    await python3 "$MEASURE" run "$TMP/run.log" "$@" >"$TMP/measured"
    # shellcheck disable=SC2034 # used by the scripts that source this
    read -r exit WALL CPU PEAK _ <"$TMP/measured"
    if ((exit != 0)); then
        tail -n 20 "$TMP/run.log" >&2
        die "$name ended with $exit"
    fi
}

# Factor by which the clock of a counted run is slower than the machine's (slow_clock.c). llbatch claims rows one by one below
# 16 rows in 30 ms, which is near the pace of an emulator: one binary was counted at 116,000 instructions a row and, in an
# emulator half as fast, at 184,000. With this factor, an emulator may be twenty times slower than that pace. Four counts of
# that binary were then 114,100 to 115,300, one of them in the slower emulator.
SLOWER=20

# Builds that clock. What starts a process with it is in CLOCK.
slow_clock() {
    await cc -shared -fPIC -O1 -o "$TMP/slow_clock.so" "$ROOT/tests/bench/slow_clock.c" -ldl || die 'the clock was not built'
    # shellcheck disable=SC2034 # used by the scripts that source this
    CLOCK=(env LD_PRELOAD="$TMP/slow_clock.so" SLOWER=$SLOWER)
}

# Arithmetic with a printf format: calc %.2f '1 / 3'
calc() { awk "BEGIN { printf \"$1\", $2 }"; }
# Whether a comparison holds: holds '0.5 <= 1'
holds() { awk "BEGIN { exit !($1) }"; }

# Prints the table whose rows are in a file; targets.sh gets the rows as well. print_table FILE
print_table() {
    if [[ -n ${BENCH_ROWS-} ]]; then cp "$1" "$BENCH_ROWS"; fi
    python3 "$MEASURE" table <"$1"
}

free_port() { python3 "$MEASURE" free-port; }

# Waits until something listens on a loopback port and $2, its process, lives. wait_port PORT PID SECONDS
wait_port() {
    local tries=$(($3 * 10))
    until (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        kill -0 "$2" 2>/dev/null || return 1
        ((tries-- > 0)) || return 1
        sleep 0.1
    done
}

# Starts nginx on its own directory $1, with the text $3 inside of http {} and a server on port $2 to wait for.
# Its process id is in NGINX.
start_nginx() {
    local dir=$1 port=$2 http=$3 modules user=''
    mkdir -p "$dir"
    modules=$(nginx -V 2>&1 | grep -o -e '--modules-path=[^ ]*')
    modules=${modules#*=}
    [[ -e $modules/ngx_http_echo_module.so ]] || die "nginx's echo module is missing (Debian: libnginx-mod-http-echo)"
    if ((EUID == 0)); then user="user $(id -un) $(id -gn);"; fi
    cat >"$dir/nginx.conf" <<CONF
load_module $modules/ngx_http_echo_module.so;
$user
worker_processes 2; worker_rlimit_nofile 65536; daemon off; pid $dir/nginx.pid; error_log $dir/error.log;
events { worker_connections 20000; multi_accept on; }
http {
    access_log off; default_type application/json; tcp_nodelay on;
    keepalive_requests 100000000; keepalive_timeout 300s;
    client_body_buffer_size 64k; client_body_temp_path $dir/body; proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi; uwsgi_temp_path $dir/uwsgi; scgi_temp_path $dir/scgi;
    $http
}
CONF
    start nginx -e "$dir/error.log" -c "$dir/nginx.conf"
    NGINX=$!
    wait_port "$port" "$NGINX" 10 || { cat "$dir/error.log" >&2; die "nginx does not listen on port $port"; }
}

# Date, processor, memory, file system and load: what the figures depend on.
facts() {
    printf 'date      %s\n' "$(date -u '+%Y-%m-%d %H:%M UTC')"
    printf 'machine   %s x %s, %s MiB memory\n' "$(nproc)" \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr -s ' ')" \
        "$(($(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo) / 1024))"
    printf 'system    Linux %s, load %s, files on %s\n' "$(uname -r)" "$(cut -d ' ' -f 1-3 /proc/loadavg)" \
        "$(stat -f -c %T "$TMP")"
    printf 'versions  %s, %s%s\n' "$("$BIN" --version)" "$(nginx -v 2>&1 | sed 's/.*: //')" "${1:+, $1}"
}
