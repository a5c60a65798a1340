/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What erl_driver.h must agree on with the committed Rust bindings: one line
 * for each type, field and constant. No include guard: the includer defines
 * SIZE, AT_LEAST, FIELD, VALUE, VERSION, ENUM, LENGTH and ADDRESS, and gets each
 * line once.
 *
 *   wrapper.h   turns the lines into constants that bindgen evaluates
 *   shim.c      turns the lines into assertions against layout.h
 *
 * A line's arguments must reach ## and # directly: most of the names are
 * macros, and one more level of expansion would turn them into their values.
 */

/* Whole types. */
SIZE(ErlDrvUInt64)
SIZE(ErlDrvSInt64)
SIZE(ErlDrvUInt)
SIZE(ErlDrvSInt)
SIZE(ErlDrvTermData)
SIZE(ErlDrvSizeT)
SIZE(ErlDrvSSizeT)
SIZE(ErlDrvData)
SIZE(ErlDrvEvent)
SIZE(ErlDrvPort)
SIZE(ErlDrvThreadData)
SIZE(ErlDrvPDL)
SIZE(ErlDrvTid)
SIZE(ErlDrvTSDKey)
SIZE(ErlDrvTime)
SIZE(ErlDrvTimeUnit)
SIZE(ErlDrvEntry)
SIZE(ErlDrvMonitor)
SIZE(ErlDrvBinary)
SIZE(ErlIOVec)
SIZE(SysIOVec)
SIZE(ErlDrvNowData)
SIZE(ErlDrvThreadOpts)
/* driver_system_info() is told the size: newer headers append fields. */
AT_LEAST(ErlDrvSysInfo)

/* Fields. */
FIELD(ErlDrvEntry, init)
FIELD(ErlDrvEntry, start)
FIELD(ErlDrvEntry, stop)
FIELD(ErlDrvEntry, output)
FIELD(ErlDrvEntry, ready_input)
FIELD(ErlDrvEntry, ready_output)
FIELD(ErlDrvEntry, driver_name)
FIELD(ErlDrvEntry, finish)
FIELD(ErlDrvEntry, handle)
FIELD(ErlDrvEntry, control)
FIELD(ErlDrvEntry, timeout)
FIELD(ErlDrvEntry, outputv)
FIELD(ErlDrvEntry, ready_async)
FIELD(ErlDrvEntry, flush)
FIELD(ErlDrvEntry, call)
FIELD(ErlDrvEntry, unused_event_callback)
FIELD(ErlDrvEntry, extended_marker)
FIELD(ErlDrvEntry, major_version)
FIELD(ErlDrvEntry, minor_version)
FIELD(ErlDrvEntry, driver_flags)
FIELD(ErlDrvEntry, handle2)
FIELD(ErlDrvEntry, process_exit)
FIELD(ErlDrvEntry, stop_select)
FIELD(ErlDrvEntry, emergency_close)
FIELD(ErlDrvMonitor, data)
FIELD(ErlDrvBinary, orig_size)
FIELD(ErlDrvBinary, orig_bytes)
FIELD(ErlIOVec, vsize)
FIELD(ErlIOVec, size)
FIELD(ErlIOVec, iov)
FIELD(ErlIOVec, binv)
FIELD(SysIOVec, iov_base)
FIELD(SysIOVec, iov_len)
FIELD(ErlDrvNowData, megasecs)
FIELD(ErlDrvNowData, secs)
FIELD(ErlDrvNowData, microsecs)
FIELD(ErlDrvThreadOpts, suggested_stack_size)
FIELD(ErlDrvSysInfo, driver_major_version)
FIELD(ErlDrvSysInfo, driver_minor_version)
FIELD(ErlDrvSysInfo, erts_version)
FIELD(ErlDrvSysInfo, otp_release)
FIELD(ErlDrvSysInfo, thread_support)
FIELD(ErlDrvSysInfo, smp_support)
FIELD(ErlDrvSysInfo, async_threads)
FIELD(ErlDrvSysInfo, scheduler_threads)
FIELD(ErlDrvSysInfo, nif_major_version)
FIELD(ErlDrvSysInfo, nif_minor_version)
FIELD(ErlDrvSysInfo, dirty_scheduler_support)

/* Constants, with the type that the API uses them as. */
VALUE(int, ERL_DRV_READ)
VALUE(int, ERL_DRV_WRITE)
VALUE(int, ERL_DRV_USE)
VALUE(int, ERL_DRV_USE_NO_CALLBACK)
VALUE(int, DO_READ)
VALUE(int, DO_WRITE)

VALUE(int, ERL_DRV_EXTENDED_MARKER)
VALUE(int, ERL_DRV_EXTENDED_MAJOR_VERSION)
/* ERTS loads drivers of its own minor version and of older ones. */
VERSION(int, ERL_DRV_EXTENDED_MINOR_VERSION)
VERSION(int, ERL_DRV_MIN_REQUIRED_MAJOR_VERSION_ON_LOAD)

VALUE(int, PORT_CONTROL_FLAG_BINARY)
VALUE(int, PORT_CONTROL_FLAG_HEAVY)
VALUE(int, PORT_FLAG_BINARY)
VALUE(int, PORT_FLAG_LINE)
VALUE(int, ERL_DRV_FLAG_USE_PORT_LOCKING)
VALUE(int, ERL_DRV_FLAG_SOFT_BUSY)
VALUE(int, ERL_DRV_FLAG_NO_BUSY_MSGQ)
VALUE(int, ERL_DRV_FLAG_USE_INIT_ACK)
VALUE(unsigned int, DRIVER_CALL_KEEP_BUFFER)

/* Some of them do not fit the signed 64 bits that clang evaluates in. */
LENGTH(ErlDrvSizeT, ERL_DRV_BUSY_MSGQ_DISABLED)
LENGTH(ErlDrvSizeT, ERL_DRV_BUSY_MSGQ_READ_ONLY)
LENGTH(ErlDrvSizeT, ERL_DRV_BUSY_MSGQ_LIM_MAX)
LENGTH(ErlDrvSizeT, ERL_DRV_BUSY_MSGQ_LIM_MIN)

VALUE(ErlDrvTime, ERL_DRV_TIME_ERROR)
ENUM(ErlDrvTimeUnit, ERL_DRV_SEC)
ENUM(ErlDrvTimeUnit, ERL_DRV_MSEC)
ENUM(ErlDrvTimeUnit, ERL_DRV_USEC)
ENUM(ErlDrvTimeUnit, ERL_DRV_NSEC)

VALUE(ErlDrvTermData, ERL_DRV_NIL)
VALUE(ErlDrvTermData, ERL_DRV_ATOM)
VALUE(ErlDrvTermData, ERL_DRV_INT)
VALUE(ErlDrvTermData, ERL_DRV_PORT)
VALUE(ErlDrvTermData, ERL_DRV_BINARY)
VALUE(ErlDrvTermData, ERL_DRV_STRING)
VALUE(ErlDrvTermData, ERL_DRV_TUPLE)
VALUE(ErlDrvTermData, ERL_DRV_LIST)
VALUE(ErlDrvTermData, ERL_DRV_STRING_CONS)
VALUE(ErlDrvTermData, ERL_DRV_PID)
VALUE(ErlDrvTermData, ERL_DRV_FLOAT)
VALUE(ErlDrvTermData, ERL_DRV_EXT2TERM)
VALUE(ErlDrvTermData, ERL_DRV_UINT)
VALUE(ErlDrvTermData, ERL_DRV_BUF2BINARY)
VALUE(ErlDrvTermData, ERL_DRV_INT64)
VALUE(ErlDrvTermData, ERL_DRV_UINT64)
VALUE(ErlDrvTermData, ERL_DRV_MAP)

/* Small negative numbers, carried as addresses. */
ADDRESS(ErlDrvData, ERL_DRV_ERROR_GENERAL)
ADDRESS(ErlDrvData, ERL_DRV_ERROR_ERRNO)
ADDRESS(ErlDrvData, ERL_DRV_ERROR_BADARG)
