// SPDX-License-Identifier: Apache-2.0
//! One small value per fd, in pages that are made when a fd in them is first
//! used: grown by use, whatever the limit on fds, and cheap for a far number.

/// Values of one page.
const PAGE: usize = 64;

/// A value `T` for every fd; `T::default()` for those never written.
pub struct Pages<T> {
    pages: Vec<Option<Box<[T; PAGE]>>>,
}

impl<T: Copy + Default> Pages<T> {
    pub fn new() -> Self {
        Pages { pages: Vec::new() }
    }

    /// The value of a fd. A negative number has the default.
    pub fn get(&self, fd: i32) -> T {
        let Ok(fd) = usize::try_from(fd) else {
            return T::default();
        };
        match self.pages.get(fd / PAGE) {
            Some(Some(page)) => page[fd % PAGE],
            _ => T::default(),
        }
    }

    /// The place of a fd's value, made if needed. `fd` is not negative.
    pub fn slot(&mut self, fd: i32) -> &mut T {
        let fd = fd as usize;
        if self.pages.len() <= fd / PAGE {
            self.pages.resize_with(fd / PAGE + 1, || None);
        }
        let page = self.pages[fd / PAGE].get_or_insert_with(|| Box::new([T::default(); PAGE]));
        &mut page[fd % PAGE]
    }

    /// The values of this fd and those after it, as far as their pages were made.
    pub fn from(&self, fd: i32) -> impl Iterator<Item = (i32, T)> {
        let first = usize::try_from(fd).unwrap_or(0);
        let pages = self.pages.iter().enumerate().skip(first / PAGE);
        let values = pages.flat_map(|(number, page)| {
            let values = page.iter().flat_map(|page| page.iter().copied());
            values
                .enumerate()
                .map(move |(at, value)| (number * PAGE + at, value))
        });
        values
            .skip_while(move |(fd, _)| *fd < first)
            .map(|(fd, value)| (fd as i32, value))
    }

    #[cfg(test)]
    pub fn pages_made(&self) -> usize {
        self.pages.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_written_is_the_default() {
        let mut pages = Pages::<u32>::new();
        *pages.slot(64) = 7;
        let values = [-1, 0, 63, 64, 65, i32::MAX].map(|fd| pages.get(fd));
        assert_eq!(values, [0, 0, 0, 7, 0, 0]);
    }

    #[test]
    fn values_come_in_order_from_the_first_asked_for() {
        let mut pages = Pages::<u32>::new();
        for fd in [3, 70, 500] {
            *pages.slot(fd) = fd as u32;
        }
        let written = |first| -> Vec<i32> {
            let values = pages.from(first).filter(|(_, value)| *value != 0);
            values.map(|(fd, _)| fd).collect()
        };
        assert_eq!(written(-1), [3, 70, 500]);
        assert_eq!(written(3), [3, 70, 500]);
        assert_eq!(written(4), [70, 500]);
        assert_eq!(written(71), [500]);
        assert_eq!(written(501), []);
        assert_eq!(written(i32::MAX), []);
    }

    #[test]
    fn a_far_fd_costs_one_page() {
        let mut pages = Pages::<u32>::new();
        *pages.slot(1_000_000) = 1;
        assert_eq!(pages.pages_made(), 1);
    }
}
