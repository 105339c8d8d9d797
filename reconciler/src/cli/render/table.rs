//! Columns of text.

use crate::cli::output::{paint, style};

/// Rows under a header; columns are as wide as what is in them.
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(super) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|title| title.to_uppercase()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Cells that are empty become a dash.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cell = |cell: String| {
            if cell.is_empty() {
                "-".to_owned()
            } else {
                cell.replace('\n', " ")
            }
        };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// True without rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, each line after `indent`.
    pub(super) fn render(&self, indent: &str) -> String {
        let width = |column: usize| {
            let cells = self
                .rows
                .iter()
                .chain([&self.header])
                .filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut text = format!("{indent}{}\n", paint(style::DIM, &line(&self.header)));
        for row in &self.rows {
            text.push_str(&format!("{indent}{}\n", line(row)));
        }
        text
    }
}
