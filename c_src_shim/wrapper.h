/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What bindgen reads: erl_driver.h, and its constants said again as typed
 * variables. bindgen drops macros that contain a cast and guesses the type of
 * the others; it evaluates an initialiser exactly, if it fits 64 signed bits.
 *
 *   value__NAME     becomes `pub const NAME`, of the same type
 *   length__NAME    becomes `pub const NAME`, an ErlDrvSizeT
 *   address__NAME   becomes `pub const NAME`, an ErlDrvData
 *   layout__...     becomes a line of layout.h, not part of the bindings
 *
 * bindgen handles enumerations well by itself.
 */

#include "erl_driver.h"

#if SIZEOF_VOID_P != __SIZEOF_POINTER__
#  error "these Erlang headers are for another word size than the target's; set ERTS_INCLUDE_DIR"
#endif

#define LAYOUT(NAME, VALUE) \
    static const ErlDrvSInt64 layout__##NAME = (ErlDrvSInt64) (VALUE);

#define SIZE(TYPE) LAYOUT(SIZE_##TYPE, sizeof(TYPE))
#define AT_LEAST(TYPE) SIZE(TYPE)
#define FIELD(TYPE, NAME) \
    LAYOUT(OFFSET_##TYPE##_##NAME, __builtin_offsetof(TYPE, NAME)) \
    LAYOUT(FIELD_##TYPE##_##NAME, sizeof(((TYPE *) 0)->NAME))
#define VALUE(TYPE, NAME) \
    static const TYPE value__##NAME = (TYPE) NAME; \
    LAYOUT(VALUE_##NAME, (TYPE) NAME)
#define VERSION(TYPE, NAME) \
    static const TYPE value__##NAME = (TYPE) NAME; \
    LAYOUT(VALUE_##NAME, (TYPE) NAME)
#define ENUM(TYPE, NAME) LAYOUT(VALUE_##NAME, NAME)
#define LENGTH(TYPE, NAME) \
    static const ErlDrvSInt length__##NAME = (ErlDrvSInt) NAME; \
    LAYOUT(VALUE_##NAME, (ErlDrvSInt) NAME)
#define ADDRESS(TYPE, NAME) \
    static const ErlDrvSInt address__##NAME = (ErlDrvSInt) NAME; \
    LAYOUT(VALUE_##NAME, (ErlDrvSInt) NAME)

#include "items.h"
