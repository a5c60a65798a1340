/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Stops the build when the erl_driver.h it is compiled against is not the one
 * that the committed Rust bindings describe. Rust cannot see the difference: a
 * field that moved would be a crash inside the VM. Below that, the few lines
 * that C has to say. Knows nothing of inert.
 *
 * items.h lists what is compared, layout.h holds the bindings' numbers.
 */

#include <stddef.h>
#include <stdint.h>

#include "shim.h"

#if UINTPTR_MAX == 0xffffffffu
#  define LAYOUT_WORD 4
#elif UINTPTR_MAX == 0xffffffffffffffffu
#  define LAYOUT_WORD 8
#else
#  error "inert: there are committed bindings for words of 4 and 8 bytes only"
#endif

#include "layout.h"

#define CHECK(CONDITION, WHAT) \
    _Static_assert(CONDITION, "inert: " WHAT ": this Erlang's erl_driver.h differs " \
        "from the committed bindings; regenerate them with erl_driver-sys/regenerate " \
        "(see erl_driver-sys/README.md)");

/* Headers of another machine: every other difference would follow from it. */
_Static_assert(SIZEOF_VOID_P == sizeof(void *) && SIZEOF_LONG == sizeof(long),
    "inert: these Erlang headers are for another word size than the one being compiled "
    "for; set ERTS_INCLUDE_DIR to the usr/include of an Erlang built for the target");

#define SIZE(TYPE) \
    CHECK(sizeof(TYPE) == LAYOUT_SIZE_##TYPE, \
        #TYPE " has not the size that the committed bindings expect")

#define AT_LEAST(TYPE) \
    CHECK(sizeof(TYPE) >= LAYOUT_SIZE_##TYPE, \
        #TYPE " is smaller than the committed bindings expect")

#define FIELD(TYPE, NAME) \
    CHECK(offsetof(TYPE, NAME) == LAYOUT_OFFSET_##TYPE##_##NAME, \
        #TYPE "." #NAME " is not where the committed bindings expect it") \
    CHECK(sizeof(((TYPE *) 0)->NAME) == LAYOUT_FIELD_##TYPE##_##NAME, \
        #TYPE "." #NAME " has not the size that the committed bindings expect")

#define EQUAL(NAME, WHAT, EXPECTED) \
    CHECK(NAME == EXPECTED, WHAT " has not the value that the committed bindings expect")
#define VALUE(TYPE, NAME)  EQUAL((TYPE) NAME, #NAME, (TYPE) LAYOUT_VALUE_##NAME)
#define LENGTH(TYPE, NAME) EQUAL((TYPE) NAME, #NAME, (TYPE) LAYOUT_VALUE_##NAME)
#define ENUM(TYPE, NAME)   EQUAL((TYPE) NAME, #NAME, (TYPE) LAYOUT_VALUE_##NAME)
/* Integers: no compiler takes the comparison of addresses for a constant. */
#define ADDRESS(TYPE, NAME) EQUAL((intptr_t) NAME, #NAME, (intptr_t) LAYOUT_VALUE_##NAME)

/* A newer header is as good: ERTS refuses drivers newer than itself only. */
#define VERSION(TYPE, NAME) \
    CHECK((TYPE) NAME >= (TYPE) LAYOUT_VALUE_##NAME, \
        #NAME " is older than the committed bindings expect")

#include "items.h"

/* A callback that changed its prototype would keep its size and its place. */
#define CALLBACK(NAME, RESULT, ...) \
    CHECK(_Generic(((ErlDrvEntry *) 0)->NAME, RESULT (*)(__VA_ARGS__): 1, default: 0), \
        "ErlDrvEntry." #NAME " has not the prototype that the committed bindings expect")

CALLBACK(init, int, void)
CALLBACK(start, ErlDrvData, ErlDrvPort, char *)
CALLBACK(stop, void, ErlDrvData)
CALLBACK(output, void, ErlDrvData, char *, ErlDrvSizeT)
CALLBACK(ready_input, void, ErlDrvData, ErlDrvEvent)
CALLBACK(ready_output, void, ErlDrvData, ErlDrvEvent)
CALLBACK(finish, void, void)
CALLBACK(control, ErlDrvSSizeT, ErlDrvData, unsigned int, char *, ErlDrvSizeT,
         char **, ErlDrvSizeT)
CALLBACK(timeout, void, ErlDrvData)
CALLBACK(outputv, void, ErlDrvData, ErlIOVec *)
CALLBACK(ready_async, void, ErlDrvData, ErlDrvThreadData)
CALLBACK(flush, void, ErlDrvData)
CALLBACK(call, ErlDrvSSizeT, ErlDrvData, unsigned int, char *, ErlDrvSizeT,
         char **, ErlDrvSizeT, unsigned int *)
CALLBACK(process_exit, void, ErlDrvData, ErlDrvMonitor *)
CALLBACK(stop_select, void, ErlDrvEvent, void *)
CALLBACK(emergency_close, void, ErlDrvData)

/*
 * An ErlDrvEvent is declared as a pointer and is a file descriptor: ERTS casts
 * one to the other (driver_select in erl_check_io.c). A cast keeps the value, so
 * the union has a word beside the pointer: an int would be the upper, empty half
 * of it on a big-endian 64-bit machine.
 */
union event_or_fd {
    ErlDrvEvent event;
    intptr_t fd;
};

_Static_assert(sizeof(union event_or_fd) == sizeof(ErlDrvEvent),
    "inert: an ErlDrvEvent is not a word on this machine, where inert takes it for one");

ErlDrvEvent erl_drv_shim_event_from_fd(int fd)
{
    union event_or_fd u = { .fd = fd };
    return u.event;
}

int erl_drv_shim_fd_from_event(ErlDrvEvent event)
{
    union event_or_fd u = { .event = event };
    return (int) u.fd;
}

int erl_drv_shim_marker(void)
{
    return (int) ERL_DRV_EXTENDED_MARKER;
}
