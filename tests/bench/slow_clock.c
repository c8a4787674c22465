/*
 * A clock for a process in an emulator: its time passes SLOWER times more slowly, as its work does.
 *
 *   cc -shared -fPIC -O1 -o slow_clock.so slow_clock.c -ldl
 *   LD_PRELOAD=slow_clock.so SLOWER=20 valgrind …
 *
 * llbatch measures its own pace. A run with fewer than 533 rows a second claims its rows one by one, and a faster one many at
 * once. In an emulator a run has about that pace, so that the speed of the machine decided how many instructions were counted.
 * Waits of a length, and waits up to a time of this clock, are stretched by the same factor.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static int (*next_clock_gettime)(clockid_t, struct timespec *);
static int (*next_clock_nanosleep)(clockid_t, int, const struct timespec *, struct timespec *);
static int (*next_epoll_wait)(int, struct epoll_event *, int, int);
static long (*next_syscall)(long, ...);
static long long start, slower = 1;

static long long nanoseconds(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }

static struct timespec timespec_of(long long nanoseconds) {
    return (struct timespec){.tv_sec = nanoseconds / SECOND, .tv_nsec = nanoseconds % SECOND};
}

/* The time at which this clock shows `shown`. */
static struct timespec true_time(const struct timespec *shown) {
    return timespec_of(start + (nanoseconds(shown) - start) * slower);
}

static struct timespec stretched(const struct timespec *length) { return timespec_of(nanoseconds(length) * slower); }

__attribute__((constructor)) static void begin(void) {
    struct timespec now;
    const char *factor = getenv("SLOWER");
    next_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    next_clock_nanosleep = dlsym(RTLD_NEXT, "clock_nanosleep");
    next_epoll_wait = dlsym(RTLD_NEXT, "epoll_wait");
    next_syscall = dlsym(RTLD_NEXT, "syscall");
    next_clock_gettime(CLOCK_MONOTONIC, &now);
    start = nanoseconds(&now);
    slower = factor != NULL && atoll(factor) > 0 ? atoll(factor) : 1;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed;
    /* The allocator asks before anything of this file has run. */
    if (next_clock_gettime == NULL) next_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    failed = next_clock_gettime(clock, time);
    if (failed == 0 && clock == CLOCK_MONOTONIC && start != 0)
        *time = timespec_of(start + (nanoseconds(time) - start) / slower);
    return failed;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left) {
    struct timespec longer = clock != CLOCK_MONOTONIC ? *time : (flags & TIMER_ABSTIME) ? true_time(time) : stretched(time);
    return next_clock_nanosleep(clock, flags, &longer, left);
}

int nanosleep(const struct timespec *time, struct timespec *left) {
    struct timespec longer = stretched(time);
    return next_clock_nanosleep(CLOCK_MONOTONIC, 0, &longer, left);
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int milliseconds) {
    long long longer = milliseconds > 0 ? milliseconds * slower : milliseconds;
    return next_epoll_wait(epoll, events, most, longer > INT_MAX ? INT_MAX : (int)longer);
}

/* The futexes of Rust's standard library, whose waits end at a time of this clock. */
long syscall(long number, ...) {
    long arguments[6];
    struct timespec end;
    va_list list;
    va_start(list, number);
    for (int at = 0; at < 6; at++) arguments[at] = va_arg(list, long);
    va_end(list);
    if (number == SYS_futex && (arguments[1] & ~FUTEX_PRIVATE_FLAG) == FUTEX_WAIT_BITSET && arguments[3] != 0) {
        end = true_time((const struct timespec *)arguments[3]);
        arguments[3] = (long)&end;
    }
    return next_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}
