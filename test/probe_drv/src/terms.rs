// SPDX-License-Identifier: Apache-2.0
//! One term of each kind, sent to the caller.

use erl_driver::{Atom, Port, SendError, Term};

/// More than a hash map's limit (32), where ERTS builds another kind of map.
const MANY: usize = 100;

/// `None` for a name that is none.
pub fn send(name: &[u8], port: &Port) -> Option<Result<(), SendError>> {
    let numbers: Vec<i64> = (0..MANY as i64).collect();
    let mut term = Term::new();
    match name {
        b"nil" => term.nil(),
        b"atoms" => term.list(|t| {
            t.atom(Atom::new(c"ok"))
                .atom(Atom::new(c""))
                .atom(Atom::new(c"\xe5"))
        }),
        b"ints" => term.list(|t| t.int(0).int(-1).int(isize::MIN).int(isize::MAX)),
        b"int64s" => term.list(|t| {
            t.int64(&0)
                .int64(&-1)
                .int64(&i64::MIN)
                .int64(&i64::MAX)
                .uint64(&u64::MAX)
        }),
        b"floats" => term.list(|t| t.float(&0.0).float(&-1.5).float(&f64::MAX)),
        b"infinity" => term.float(&f64::INFINITY),
        b"nan" => term.tuple(|t| t.int(1).float(&f64::NAN)),
        b"port" => term.port(port),
        b"pid" => term.pid(port.owner()),
        b"binaries" => term.list(|t| t.binary(b"").binary(b"short").binary(&[7; 65])),
        b"strings" => term.list(|t| t.string(b"").string(b"abc")),
        b"tuples" => term.tuple(|t| t.tuple(|t| t).tuple(|t| t.int(1).tuple(|t| t.nil()))),
        b"lists" => term.list(|t| t.list(|t| t).list(|t| t.int(1).list(|t| t.int(2)))),
        b"map" => term.map(|t| t.int(2).binary(b"two").int(1).map(|t| t)),
        b"large_map" => term.map(|t| numbers.iter().fold(t, |t, n| t.int64(n).int64(n))),
        b"same_keys" => term.map(|t| t.int(1).nil().int(1).nil()),
        b"large_same_keys" => term.map(|t| numbers.iter().fold(t, |t, _| t.int(1).nil())),
        b"no_value" => term.map(|t| t.int(1)),
        b"large" => {
            term.list(|t| (0..10_000).fold(t, |t, n| t.tuple(|t| t.int(n).binary(b"some bytes"))))
        }
        b"none" => &mut term,
        b"two" => term.nil().nil(),
        b"externals" => term.tuple(|t| {
            // <<1, 2>>, and [a] compressed.
            t.external(b"\x83m\0\0\0\x02\x01\x02")
                .external(b"\x83a\x05")
        }),
        b"good_then_bad" => term.tuple(|t| t.external(b"\x83a\x05").external(b"\x83")),
        b"nobody" => {
            return Some(port.send(port.owner(), {
                term.tuple(|t| t.int(1));
                &term
            }));
        }
        _ => return None,
    };
    Some(port.send(port.caller(), &term))
}
