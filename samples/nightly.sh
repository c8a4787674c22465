#!/usr/bin/env bash
# A night of batch jobs for cron: takes an input, submits it, waits, finishes what failed, publishes the results.
#
#   30 23 * * *  nightly.sh /srv/in/prompts.jsonl /srv/out 2>>/srv/out.log
#
#   nightly.sh INPUT OUT [FLAGS FOR `llbatch submit`, SUCH AS -m MODEL --prompt TEMPLATE]
#
# OUT/DATE-HASH/ appears whole, with results.jsonl, failed.jsonl (rows without an answer, with why) and summary.json;
# OUT/latest is a link to the one published last. The input is copied first: once this says "queued", it may be replaced.
# Whatever stops it (a reboot, the network, the key, an empty account), the next start goes on with every night that is
# not published yet, and nothing is sent or paid twice. One OUT for each line in the crontab.
#
# Environment, with the defaults:
#   NIGHTLY_TIMEOUT=20h   wait for batches no longer than this in one start
#   NIGHTLY_BUDGET=1      most US dollars to spend on failed rows, in real time; 0: they stay failed
#   NIGHTLY_POLL=         how often to ask (default: as llbatch does)
#   NIGHTLY_KEEP=30d      how long llbatch keeps jobs that were published
#   NIGHTLY_SANDBOX=1     rehearse: the built-in server answers; no key, no network, no cost
#   LLBATCH=llbatch       the program
#
# Exit code: that of the worst night. 0 published; 3 published, with failed rows; 4 the key; 5 payment, or the budget was
# used up; 65 an input that is wrong (it lies in OUT/rejected); 66 no input; 74 the disk; 75 not finished, or no network:
# start it again; 76 the service broke its contract (what it sent lies in OUT/suspect, and is not published).
# shellcheck disable=SC2317 # functions that are called through `guarded`
set -euo pipefail
shopt -s nullglob
umask 077

if (($# < 2)); then
    echo "usage: nightly.sh INPUT OUT [FLAGS FOR llbatch submit]" >&2
    exit 2
fi
input=$1 out=$2
shift 2
submit_flags=("$@")
llbatch=${LLBATCH:-llbatch}
timeout=${NIGHTLY_TIMEOUT:-20h}
budget=${NIGHTLY_BUDGET:-1}
waiting=(--timeout "$timeout")
[[ -z ${NIGHTLY_POLL:-} ]] || waiting+=(--poll "$NIGHTLY_POLL")
where=()
[[ ${NIGHTLY_SANDBOX:-0} == 0 ]] || where=(--sandbox)
# File descriptors whose locks this start holds; they are open until it ends.
locks=()

log() { printf '%(%Y-%m-%dT%H:%M:%S%z)T %s\n' -1 "$*" >&2; }

# llbatch without our locks: if this script is killed and llbatch goes on alone, the next start must not be kept out. The
# two then meet at llbatch's own lock on the job, which is made for that.
run() (
    for fd in "${locks[@]}"; do exec {fd}>&-; done
    exec "$llbatch" "$@"
)

# The worse of two exit codes, in llbatch's own order, with what concerns one night only at the end.
worse() {
    local code
    for code in 2 1 74 4 5 76 75 66 65 3; do
        if (($1 == code || $2 == code)); then
            echo "$code"
            return
        fi
    done
    echo $(($1 > $2 ? $1 : $2))
}

# Writes a word to a file, whole or not at all.
mark() {
    echo "$2" >"$1.new"
    mv -- "$1.new" "$1"
}

# The directory that a night is published in, if it is.
published() { printf '%s\n' "$out"/????-??-??-"$1"; }

# Takes the input into the queue under a name that says what is in it. The flags count: the same rows for another model
# are another night.
enqueue() {
    local copy hash ending=${input##*/}
    ending=${ending#"${ending%%.*}"}
    copy=$(mktemp "$work/taking.XXXXXX")
    cat -- "$input" >"$copy"
    hash=$({ printf '%s\0' "${submit_flags[@]}"; cat -- "$copy"; } | sha256sum | cut -c1-12)
    if [[ -n $(published "$hash") ]]; then
        log "$hash: $input is published already; nothing to do"
    # A link, because it fails where the name is taken: another start may be at work on just this file.
    elif ln -- "$copy" "$queue/$hash$ending" 2>/dev/null; then
        log "$hash: queued $input"
    elif [[ -e $queue/$hash$ending ]]; then
        log "$hash: $input is in the queue already"
    else
        log "$hash: cannot be put into $queue"
        rm -f -- "$copy"
        return 74
    fi
    rm -f -- "$copy"
}

# Brings a night's rows to the service. Its job's id is written down only when all is there: until then the same command
# finds the same job, and goes on with it. After that nothing but the id is used, because once its results were fetched
# the same content would be a new job, and cost again.
submit() {
    local entry=$1 hash=$2 rc=0 id
    mkdir -p -- "$work/$hash"
    [[ ! -s $work/$hash/job ]] || return 0
    id=$(run submit "$entry" "${submit_flags[@]}" "${where[@]}" 2>"$work/$hash/submit.log") || rc=$?
    cat -- "$work/$hash/submit.log" >&2
    case $rc in
        0 | 3) # 3: the service refused a batch; its rows are among the failed ones.
            mark "$work/$hash/job" "$id"
            log "$hash: submitted as $id"
            return 0
            ;;
        75)
            # A queue that is full may have room later in the night: `wait` asks until then. Anything else that is missing
            # is submitted by the next start.
            if [[ -n $id ]]; then
                mark "$work/$hash/begun" "$id"
                log "$hash: $id is not submitted as a whole yet"
                return 0
            fi
            log "$hash: not submitted (exit 75); the next start resumes it"
            ;;
        65 | 66)
            # It would be as wrong tomorrow.
            mkdir -p -- "$out/rejected"
            mv -- "$work/$hash/submit.log" "$out/rejected/$hash.log"
            mv -- "$entry" "$out/rejected/"
            rm -rf -- "${work:?}/$hash"
            log "$hash: the input is wrong and was put into $out/rejected; nothing was sent"
            ;;
        *) log "$hash: not submitted (exit $rc); the next start resumes it" ;;
    esac
    return "$rc"
}

# Why rows of a job have failed, in a line.
failures() {
    run report "$1" "${where[@]}" 2>/dev/null |
        awk '/^  [a-z]/ { on = /^  errors/ } on { sub(/^ *(errors)? */, ""); printf "%s%s", sep, $0; sep = "; " }'
}

# Waits for a night, mends what can be mended, publishes.
finish() {
    local entry=$1 hash=$2 rc=0 retry=0 id date dir=$work/$2
    if [[ -s $dir/job ]]; then id=$(<"$dir/job"); else id=$(<"$dir/begun"); fi
    # Each step leaves a mark when it is done, so that the next start begins with the one that was not.
    if [[ ! -e $dir/ended ]]; then
        run wait "$id" "${waiting[@]}" "${where[@]}" || rc=$?
        case $rc in
            # 3 and 76 say how it ended; with anything else it has not.
            0 | 3 | 76)
                mark "$dir/job" "$id"
                mark "$dir/ended" "$rc"
                ;;
            *)
                # Batches that were never submitted are not waited for. The next start submits them.
                [[ $rc != 1 || -s $dir/job ]] || rc=75
                log "$hash: $id has not ended (exit $rc); the next start resumes it"
                return "$rc"
                ;;
        esac
    fi
    if [[ $(<"$dir/ended") == 3 && $budget != 0 && ! -e $dir/retried ]]; then
        log "$hash: rows that failed: $(failures "$id")"
        log "$hash: sending them again in real time, without the batch discount, for at most \$$budget"
        run retry "$id" --via realtime --max-cost "$budget" "${where[@]}" >/dev/null || retry=$?
        case $retry in
            # 5: the budget is used up, or the account is empty. A night's last rows must not hold up all the others.
            0 | 3 | 5) mark "$dir/retried" "$retry" ;;
            *)
                log "$hash: failed rows could not be sent again (exit $retry); the next start resumes it"
                return "$retry"
                ;;
        esac
    fi

    rm -rf -- "$dir/new"
    mkdir -- "$dir/new"
    rc=0
    run fetch "$id" -o "$dir/new/results.jsonl" --errors "$dir/new/failed.jsonl" --summary "$dir/new/summary.json" \
        "${where[@]}" || rc=$?
    if [[ -e $dir/retried ]]; then
        # 75: rows that the budget did not reach. They stand in failed.jsonl, and no batch is still to come.
        [[ $rc != 75 ]] || rc=3
        retry=$(<"$dir/retried")
    fi
    date=$(date -r "$entry" +%F)
    case $rc in
        0 | 3)
            # One rename: who looks sees all of it or nothing.
            mv -T -- "$dir/new" "$out/$date-$hash"
            ln -sfn -- "$date-$hash" "$work/latest"
            mv -T -- "$work/latest" "$out/latest"
            log "$hash: published $out/$date-$hash (exit $rc, $(wc -l <"$out/$date-$hash/failed.jsonl") failed)"
            ;;
        76)
            mkdir -p -- "$out/suspect"
            rm -rf -- "$out/suspect/$date-$hash"
            mv -T -- "$dir/new" "$out/suspect/$date-$hash"
            log "$hash: the service broke its contract; look at $out/suspect/$date-$hash before you use it"
            ;;
        *)
            log "$hash: results could not be fetched (exit $rc); the next start resumes it"
            return "$rc"
            ;;
    esac
    # The entry goes last: until then a start that finds it sees that it is published.
    rm -rf -- "$dir"
    rm -f -- "$entry"
    return "$(worse "$rc" "$((retry == 5 ? 5 : 0))")"
}

# Runs a function with errexit in force, and keeps its exit code: in `f || rc=$?` bash would switch errexit off inside f.
guarded() {
    set +e
    (
        set -e
        "$@"
    )
    rc=$?
    set -e
}

mkdir -p -- "$out"
# Paths must hold wherever llbatch is started, and the queue is beside the results: renames stay within a filesystem.
out=$(cd -- "$out" && pwd)
queue=$out/queue work=$out/work
mkdir -p -- "$queue" "$work"

worst=0
if [[ -f $input && -r $input ]]; then
    guarded enqueue
    worst=$rc
else
    # Other nights may still be waiting for this start.
    log "$input cannot be read"
    worst=66
fi

# Every night is submitted before any is waited for: tonight's must not stand behind one that takes all day.
mine=()
while IFS= read -r -d '' entry; do
    entry=${entry#* }
    hash=${entry##*/}
    hash=${hash%%.*}
    # The file itself is the lock; the kernel lets go of it whatever becomes of us.
    exec {fd}<"$entry" || continue
    if ! flock -n "$fd"; then
        log "$hash: another start works on it"
        exec {fd}<&-
        continue
    fi
    locks+=("$fd")
    # It may have been finished, and even queued anew, between the opening and the lock.
    [[ $entry -ef /dev/fd/$fd ]] || continue
    if [[ -n $(published "$hash") ]]; then
        rm -rf -- "${work:?}/$hash"
        rm -f -- "$entry"
        continue
    fi
    guarded submit "$entry" "$hash"
    if ((rc == 0)); then mine+=("$entry"); else worst=$(worse "$worst" "$rc"); fi
done < <(find "$queue" -type f -printf '%T@ %p\0' | sort -zn)

for entry in "${mine[@]}"; do
    hash=${entry##*/}
    guarded finish "$entry" "${hash%%.*}"
    worst=$(worse "$worst" "$rc")
done

# Jobs whose results nobody has taken are left alone by this.
run clean --older-than "${NIGHTLY_KEEP:-30d}" -q || log "old jobs were not cleaned (exit $?)"
exit "$worst"
