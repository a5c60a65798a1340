/* SPDX-License-Identifier: Apache-2.0
 *
 * Faults on purpose, for fault_SUITE: to be loaded with LD_PRELOAD. System calls
 * of inert's driver, and of nobody else, fail, answer nonsense, or wait, as a
 * file says that the suite writes (FAULT_FILE, 4096 bytes, mapped). Also a clock
 * that jumps, for the whole VM, and a child that holds all of its fds.
 *
 * The file is an array of int32_t in the machine's order. fault_SUITE has the
 * other end of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a call of the driver meets. */
struct row {
    int32_t skip;   /* calls that are let pass first */
    int32_t error;  /* errno, or 0: the call returns `value` without being made */
    int32_t value;
    int32_t hold;   /* calls wait while this is not 0 */
    int32_t failed; /* calls that were failed */
    int32_t held;   /* calls that have waited, or do */
    int32_t expired; /* one has waited too long, and went on */
    int32_t times;  /* calls that are to fail; written last */
};

enum { EPOLL_CREATE1, EPOLL_CTL_ADD_, EPOLL_CTL_MOD_, EPOLL_WAIT, POLL, FSTAT, DUP, GETFD, ROWS };

struct plan {
    struct row rows[ROWS];
    int32_t clock;   /* seconds that the wall clock is ahead */
    int32_t fork;    /* the next poll forks */
    int32_t child;   /* its number, when it is there */
    int32_t release; /* it ends */
};

/* No wait is for ever, whatever becomes of the suite. */
#define HOLD_MS 300
#define CHILD_MS 60000

static struct plan *plan;

static int32_t get(int32_t *place) { return __atomic_load_n(place, __ATOMIC_SEQ_CST); }

/* Whether one could be taken of a count. */
static int take(int32_t *count)
{
    int32_t old = get(count);
    while (old > 0)
        if (__atomic_compare_exchange_n(count, &old, old - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return 1;
    return 0;
}

static void *next(void **place, const char *name)
{
    if (!*place)
        *place = dlsym(RTLD_NEXT, name);
    return *place;
}
#define NEXT(name) \
    static void *place_##name; \
    __typeof__(&name) next_##name = (__typeof__(&name))next(&place_##name, #name)

__attribute__((constructor)) static void map_plan(void)
{
    const char *path = getenv("FAULT_FILE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED)
        plan = mapped;
    close(fd);
}

static int is_driver(void *caller)
{
    Dl_info info;
    return plan && dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "inert_drv.so");
}

static void pause_ms(void)
{
    struct timespec ms = {0, 1000000};
    nanosleep(&ms, NULL);
}

/* Whether the call is to fail: errno is set then, and the result. */
static int fails(int call, void *caller, int *result)
{
    if (!is_driver(caller))
        return 0;
    struct row *row = &plan->rows[call];
    if (!get(&row->times) && !get(&row->hold))
        return 0;
    if (take(&row->skip))
        return 0;
    if (get(&row->hold)) {
        __atomic_add_fetch(&row->held, 1, __ATOMIC_SEQ_CST);
        for (int ms = 0; get(&row->hold) && ms < HOLD_MS; ms++)
            pause_ms();
        if (get(&row->hold))
            __atomic_store_n(&row->expired, 1, __ATOMIC_SEQ_CST);
    }
    if (!take(&row->times))
        return 0;
    __atomic_add_fetch(&row->failed, 1, __ATOMIC_SEQ_CST);
    *result = row->error ? -1 : row->value;
    errno = row->error;
    return 1;
}

/* A process that has all fds of the VM, as one has that was forked and does not
 * exec. Nobody waits for it: it is given away to init. */
static void fork_holder(void)
{
    pid_t vm = getpid(), between = fork();
    if (between > 0) {
        waitpid(between, NULL, 0);
        return;
    }
    if (between < 0 || fork() != 0)
        _exit(0);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    __atomic_store_n(&plan->child, getpid(), __ATOMIC_SEQ_CST);
    for (int ms = 0; !get(&plan->release) && ms < CHILD_MS && kill(vm, 0) == 0; ms++)
        pause_ms();
    __atomic_store_n(&plan->child, 0, __ATOMIC_SEQ_CST);
    _exit(0);
}

#define CALLER __builtin_return_address(0)

int epoll_create1(int flags)
{
    NEXT(epoll_create1);
    int result;
    return fails(EPOLL_CREATE1, CALLER, &result) ? result : next_epoll_create1(flags);
}

int epoll_ctl(int instance, int operation, int fd, struct epoll_event *event)
{
    NEXT(epoll_ctl);
    int result;
    if (operation == EPOLL_CTL_ADD && fails(EPOLL_CTL_ADD_, CALLER, &result))
        return result;
    if (operation == EPOLL_CTL_MOD && fails(EPOLL_CTL_MOD_, CALLER, &result))
        return result;
    return next_epoll_ctl(instance, operation, fd, event);
}

int epoll_wait(int instance, struct epoll_event *events, int count, int timeout)
{
    NEXT(epoll_wait);
    int result;
    return fails(EPOLL_WAIT, CALLER, &result) ? result : next_epoll_wait(instance, events, count, timeout);
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    NEXT(poll);
    int result;
    if (plan && get(&plan->fork) && is_driver(CALLER) && take(&plan->fork))
        fork_holder();
    return fails(POLL, CALLER, &result) ? result : next_poll(fds, count, timeout);
}

int fstat(int fd, struct stat *stat)
{
    NEXT(fstat);
    int result;
    return fails(FSTAT, CALLER, &result) ? result : next_fstat(fd, stat);
}

int fstat64(int fd, struct stat64 *stat)
{
    NEXT(fstat64);
    int result;
    return fails(FSTAT, CALLER, &result) ? result : next_fstat64(fd, stat);
}

int fcntl(int fd, int command, ...)
{
    NEXT(fcntl);
    int result;
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (command == F_DUPFD_CLOEXEC && fails(DUP, CALLER, &result))
        return result;
    if (command == F_GETFD && fails(GETFD, CALLER, &result))
        return result;
    return next_fcntl(fd, command, argument);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    NEXT(clock_gettime);
    int result = next_clock_gettime(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && plan)
        time->tv_sec += get(&plan->clock);
    return result;
}
