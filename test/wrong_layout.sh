#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A header that differs from the committed bindings, or that is missing, stops
# the build with words that a stranger understands. Builds the real package
# against altered copies of the installed headers, in a target directory of its
# own under $CARGO_TARGET_DIR (or target/).
set -u
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
target=${CARGO_TARGET_DIR:-target}/wrong_layout
passed=0
failed=0

installed=${ERTS_INCLUDE_DIR:-$(erl -boot start_clean -noinput -eval \
    'io:format("~ts/usr/include", [code:root_dir()]), halt(0).')}

# check: the build script and the types, no linking.
build() {
    ERTS_INCLUDE_DIR=$1 cargo check --quiet --target-dir "$target" -p inert_drv >"$scratch/log" 2>&1
}

ok() {
    echo "ok - $1"
    passed=$((passed + 1))
}

not_ok() {
    echo "not ok - $1: $2"
    sed 's/^/#   /' "$scratch/log"
    failed=$((failed + 1))
}

# stops TITLE DIRECTORY WORDS...: the build fails, and says all of the words.
stops() {
    title=$1
    directory=$2
    shift 2
    if build "$directory"; then
        not_ok "$title" "the build went through"
        return
    fi
    for words in "$@" ; do
        if ! grep -qF -- "$words" "$scratch/log"; then
            not_ok "$title" "the message lacks \"$words\""
            return
        fi
    done
    if grep -q "panicked at" "$scratch/log"; then
        not_ok "$title" "the build script panicked"
        return
    fi
    ok "$title"
}

# altered NAME FILE SED-SCRIPT: a copy of the headers, FILE of it edited.
# Prints the copy's directory; an edit that changes nothing would test nothing.
altered() {
    copy=$scratch/$1
    mkdir "$copy" && cp "$installed"/erl_*.h "$copy"
    sed -E "$3" "$installed/$2" >"$copy/$2"
    if cmp -s "$installed/$2" "$copy/$2"; then
        echo "wrong_layout.sh: the edit \"$1\" does not match $installed/$2" >&2
    fi
    echo "$copy"
}

unaltered=$scratch/unaltered
mkdir "$unaltered" && cp "$installed"/erl_*.h "$unaltered"
if build "$unaltered"; then
    ok "the installed headers build"
else
    not_ok "the installed headers build" "they do not"
fi

regenerate="regenerate them with erl_driver-sys/regenerate"

stops "two fields changed places" \
    "$(altered fields erl_driver.h \
        's/\(\*process_exit\)/(*tmp_name)/; s/\(\*stop_select\)\(ErlDrvEvent event, void\* reserved\)/(*process_exit)(ErlDrvData d, ErlDrvMonitor *m)/; s/\(\*tmp_name\)\(.*\)/(*stop_select)(ErlDrvEvent event, void* reserved)/')" \
    "inert: ErlDrvEntry.stop_select is not where the committed bindings expect it" \
    "inert: ErlDrvEntry.process_exit is not where the committed bindings expect it" \
    "$regenerate" "erl_driver-sys/README.md"

stops "a field was added" \
    "$(altered added erl_driver.h 's/^    void \*handle2;/    void *handle3; &/')" \
    "inert: ErlDrvEntry has not the size that the committed bindings expect" \
    "inert: ErlDrvEntry.emergency_close is not where" "$regenerate"

stops "a callback's prototype changed" \
    "$(altered prototype erl_driver.h 's/^    ErlDrvSSizeT \(\*control\)/    int (*control)/')" \
    "inert: ErlDrvEntry.control has not the prototype that" "$regenerate"

stops "a monitor grew" \
    "$(altered monitor erl_drv_nif.h 's/sizeof\(void \*\)\*4/sizeof(void *)*5/')" \
    "inert: ErlDrvMonitor has not the size that" "$regenerate"

stops "a term tag changed" \
    "$(altered tag erl_driver.h 's/(define ERL_DRV_EXT2TERM.*\(ErlDrvTermData\)) 12/\1 112/')" \
    "inert: ERL_DRV_EXT2TERM has not the value that" "$regenerate"

stops "a select mode changed" \
    "$(altered mode erl_drv_nif.h 's/(ERL_NIF_SELECT_WRITE *= ).*/\1(1 << 9),/')" \
    "inert: ERL_DRV_WRITE has not the value that" "$regenerate"

stops "an error value changed" \
    "$(altered error erl_driver.h 's/(ERL_DRV_ERROR_ERRNO.*) -2/\1 -9/')" \
    "inert: ERL_DRV_ERROR_ERRNO has not the value that" "$regenerate"

stops "the major version is another" \
    "$(altered major erl_driver.h 's/(define ERL_DRV_EXTENDED_MAJOR_VERSION).*/\1 4/')" \
    "inert: ERL_DRV_EXTENDED_MAJOR_VERSION has not the value that" "$regenerate"

stops "the minor version is older" \
    "$(altered minor erl_driver.h 's/(define ERL_DRV_EXTENDED_MINOR_VERSION).*/\1 0/')" \
    "inert: ERL_DRV_EXTENDED_MINOR_VERSION is older than" "$regenerate"

title="a newer minor version builds"
if build "$(altered newer erl_driver.h 's/(define ERL_DRV_EXTENDED_MINOR_VERSION).*/\1 99/')"; then
    ok "$title"
else
    not_ok "$title" "it does not"
fi

stops "headers for another word size" \
    "$(altered word erl_int_sizes_config.h 's/(define SIZEOF_(VOID_P|LONG)) .*/\1 2/')" \
    "inert: these Erlang headers are for another word size" "set ERTS_INCLUDE_DIR"

mkdir "$scratch/empty"
stops "ERTS_INCLUDE_DIR without erl_driver.h" "$scratch/empty" \
    "ERTS_INCLUDE_DIR is \"$scratch/empty\"" "no erl_driver.h in that directory"

stops "ERTS_INCLUDE_DIR that does not exist" "$scratch/nowhere" \
    "ERTS_INCLUDE_DIR is \"$scratch/nowhere\"" "no erl_driver.h in that directory"

title="no C compiler"
if CC=/nonexistent/cc ERTS_INCLUDE_DIR=$unaltered \
    cargo check --quiet --target-dir "$target" -p inert_drv >"$scratch/log" 2>&1; then
    not_ok "$title" "the build went through"
elif grep -qF "install one or set CC" "$scratch/log"; then
    ok "$title"
else
    not_ok "$title" "the message does not say what to do"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
