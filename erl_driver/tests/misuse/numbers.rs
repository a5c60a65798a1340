// SPDX-License-Identifier: Apache-2.0
//! Numbers are no events, modes, processes, ports or monitors, nor the other way round.

use erl_driver::{Event, Mode, Monitor, Pid, Port};

pub fn numbers(port: &Port, monitor: &Monitor) {
    let _ = port.select(Event::from_fd(7), Mode::READ);
    let _ = port.monitor(port.owner());
    let _ = port.demonitor(monitor);
    #[cfg(feature = "misuse_types")]
    {
        let _ = port.select(7, Mode::READ); //~ E0308
        let _ = port.select(Event::from_fd(7), 1); //~ E0308
        let _ = port.select(Event::from_fd(7_u64), Mode::READ); //~ E0308
        let _ = port.monitor(port); //~ E0308
        let _ = port.demonitor(&port.owner()); //~ E0308
        let _ = Mode::READ & Mode::WRITE; //~ E0369
        let _ = Port::new; //~ E0624
    }
    #[cfg(feature = "misuse")]
    {
        let _ = Event(7); //~ E0423
        let _ = Mode(8); //~ E0423
        let _ = Pid(42); //~ E0423
        let _ = Monitor([0; 32]); //~ E0423
    }
}

fn main() {}
