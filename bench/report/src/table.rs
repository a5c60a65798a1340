// SPDX-License-Identifier: Apache-2.0

//! Numbers and tables as text: Markdown that also reads well in a terminal.

use std::fmt::Write;

/// A Markdown table, its columns aligned: the first to the left, the others to
/// the right unless they are said to be text.
pub struct Table {
    rows: Vec<Vec<String>>,
    text_columns: usize,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(ToString::to_string).collect()],
            text_columns: 1,
        }
    }

    /// How many columns, from the first, are text.
    pub fn text_columns(mut self, columns: usize) -> Self {
        self.text_columns = columns;
        self
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = if column < self.text_columns {
                    write!(text, "| {cell:<width$} ")
                } else {
                    write!(text, "| {cell:>width$} ")
                };
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width - 1);
                    let _ = if column < self.text_columns {
                        write!(text, "| -{dashes} ")
                    } else {
                        write!(text, "| {dashes}: ")
                    };
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

/// A whole number with its thousands apart.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", &*digits), |d| ("-", d));
    let mut text = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits are enough for a time: 1.23, 12.3, 123, 12,300.
pub fn measured(number: f64) -> String {
    if number < 9.995 {
        format!("{number:.2}")
    } else if number < 99.95 {
        format!("{number:.1}")
    } else {
        grouped(number)
    }
}

/// A ratio, with two digits behind the point.
pub fn ratio(number: f64) -> String {
    format!("{number:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(0.0), "0");
        assert_eq!(grouped(999.4), "999");
        assert_eq!(grouped(1_000.0), "1,000");
        assert_eq!(grouped(-1_234_567.0), "-1,234,567");
    }

    #[test]
    fn small_numbers_keep_three_digits() {
        assert_eq!(measured(1.234), "1.23");
        assert_eq!(measured(12.34), "12.3");
        assert_eq!(measured(99.96), "100");
        assert_eq!(measured(12_345.0), "12,345");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["peer", "time"]);
        table.row(vec!["inert".into(), "1".into()]);
        let expected = "\
| peer  | time |\n\
| ----- | ---: |\n\
| inert |    1 |\n";
        assert_eq!(table.render(), expected);
    }
}
