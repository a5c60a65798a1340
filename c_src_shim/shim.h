/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What of the driver API has to be said in C. Declared for whoever links shim.c.
 */

#ifndef ERL_DRV_SHIM_H
#define ERL_DRV_SHIM_H

#include "erl_driver.h"

/* The event that stands for a file descriptor, as ERTS on Unix has it. */
ErlDrvEvent erl_drv_shim_event_from_fd(int fd);

/* The file descriptor that an event stands for. */
int erl_drv_shim_fd_from_event(ErlDrvEvent event);

/* ERL_DRV_EXTENDED_MARKER, which is no int, as the int of ErlDrvEntry. */
int erl_drv_shim_marker(void);

#endif
