// SPDX-License-Identifier: Apache-2.0

//! A chart of one view as SVG: lines over the points, which stand at equal
//! distances. No background and colours of middle lightness, so that it reads
//! on white and on black.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, DefaultFormatting, KeyPointHint, ValueFormatter};
use plotters::prelude::*;

use crate::cases::{Line, View};
use crate::table::grouped;

const SIZE: (u32, u32) = (860, 420);
const LEGEND_WIDTH: u32 = 220;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(118, 127, 136);
const GRID: RGBAColor = RGBAColor(118, 127, 136, 0.25);

/// One colour for a peer in all charts. The peers that a reader has to find
/// stand out: inert's default is thick.
fn style(peer: &str) -> (RGBColor, u32) {
    match peer {
        "inert_epoll" => (RGBColor(232, 89, 12), 4),
        "inert_erts" => (RGBColor(201, 140, 20), 2),
        "enif_select" => (RGBColor(34, 139, 230), 2),
        "gen_tcp_passive" => (RGBColor(47, 158, 68), 2),
        "gen_tcp_once" => (RGBColor(116, 165, 20), 2),
        "gen_tcp_active" => (RGBColor(18, 166, 150), 2),
        "socket" => (RGBColor(174, 62, 201), 2),
        "fd_port" => (RGBColor(214, 51, 108), 2),
        _ => (INK, 2),
    }
}

/// The horizontal axis: this many places, numbered from 0.
struct Places(usize);

/// Room on both sides of the places, of the distance between two.
const MARGIN: f64 = 0.2;

impl Ranged for Places {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let Range { start, end } = self.range();
        let part = (value - start) / (end - start);
        limit.0 + (f64::from(limit.1 - limit.0) * part).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        (0..self.0).map(|at| at as f64).collect()
    }

    fn range(&self) -> Range<f64> {
        -MARGIN..self.0 as f64 - 1.0 + MARGIN
    }
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub fn draw(view: &View) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let (plot, legend) = root.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        let values = || view.lines.iter().flat_map(|l| l.values.iter().flatten());
        let high = values().copied().fold(f64::MIN, f64::max);
        let low = values().copied().fold(f64::MAX, f64::min);
        if view.log {
            // Whole decades would leave half of the chart empty.
            lines(view, &plot, (low / 1.5..high * 1.5).log_scale())?;
        } else {
            lines(view, &plot, 0.0..high * 1.05)?;
        }
        self::legend(view, &legend)?;
        root.present()?;
    }
    Ok(format!("{}\n", svg.trim_end()))
}

fn lines<Y>(view: &View, area: &DrawingArea<SVGBackend<'_>, Shift>, y: Y) -> Result<()>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(view.title, (FONT, 20).into_font().color(&INK))
        .margin(10)
        .x_label_area_size(46)
        .y_label_area_size(72)
        .build_cartesian_2d(Places(view.points.len()), y)?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 16).into_font().color(&INK))
        .x_desc(view.axis)
        .x_label_formatter(&|at| {
            let point = view.points.get(at.round() as usize);
            point.map_or_else(String::new, |x| grouped(*x as f64))
        })
        .y_label_formatter(&|value| label(*value))
        .draw()?;
    for line in &view.lines {
        let (color, width) = style(&line.peer.name);
        let places = || {
            let values = line.values.iter().enumerate();
            values.filter_map(|(at, value)| Some((at as f64, (*value)?)))
        };
        chart.draw_series(LineSeries::new(places(), color.stroke_width(width)))?;
        chart.draw_series(places().map(|place| Circle::new(place, width + 1, color.filled())))?;
    }
    Ok(())
}

fn label(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 {
        format!("{value:.1}")
    } else {
        grouped(value)
    }
}

/// The peers, in the order in which their lines end.
fn legend(view: &View, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<()> {
    let end = |line: &Line| {
        line.values
            .iter()
            .rev()
            .find_map(|value| *value)
            .unwrap_or(0.0)
    };
    let mut lines: Vec<&Line> = view.lines.iter().collect();
    lines.sort_by(|a, b| end(b).total_cmp(&end(a)));
    for (at, line) in lines.into_iter().enumerate() {
        let (color, width) = style(&line.peer.name);
        let y = 60 + 24 * i32::try_from(at)?;
        area.draw(&PathElement::new(
            [(8, y), (32, y)],
            color.stroke_width(width),
        ))?;
        let text = (FONT, 17).into_font().color(&INK);
        area.draw(&Text::new(line.peer.title.clone(), (40, y - 6), text))?;
    }
    Ok(())
}
