//! Aligned columns, cut to a width. comfy-table can neither leave out the last columns nor cut one cell before another.

use super::{cut, one_line, width as width_of};

/// Between two columns.
const GAP: &str = "  ";

/// The least width of a column of words: a job's id (`j-` and 8 characters) can always be read and copied.
const LEAST: usize = 10;

/// The side on which a column's cells stand, and whether they may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words on the left; such columns are cut when the grid is too wide.
    Left,
    /// Ids on the left; never cut, because people copy them.
    Whole,
    /// Numbers on the right; never cut, because a cut number reads as another one.
    Right,
}

/// Rows of text in columns, with or without headings.
#[derive(Debug, Clone)]
pub struct Grid {
    align: Vec<Align>,
    /// The headings, if there are any, then the rows. Each has as many cells as there are columns.
    rows: Vec<Vec<String>>,
    /// Number of headings in `rows`: 0 or 1.
    headings: usize,
}

impl Grid {
    /// Makes a grid with these headings and no rows.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        let (names, align): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let mut grid = Self::bare(align);
        grid.row(names).headings = 1;
        grid
    }

    /// Makes a grid without headings and without rows.
    pub fn bare(align: impl Into<Vec<Align>>) -> Self {
        Self { align: align.into(), rows: Vec::new(), headings: 0 }
    }

    /// Adds a row. Missing cells are empty, surplus cells are dropped, control characters are made visible.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        let columns = self.align.len();
        let mut row: Vec<String> =
            cells.into_iter().take(columns).map(|cell| one_line(cell.as_ref()).into_owned()).collect();
        row.resize(columns, String::new());
        self.rows.push(row);
        self
    }

    /// Returns true if there is no row below the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == self.headings
    }

    /// Renders the lines, each ended by a newline and at most `width` columns wide. `usize::MAX`: nothing is cut.
    pub fn render(&self, width: usize) -> String {
        self.lines(width).into_iter().map(|line| line + "\n").collect()
    }

    /// Renders the lines without their line ends.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let widths = self.fitting(width);
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for ((cell, align), width) in row.iter().zip(&self.align).zip(&widths) {
                let cell = cut(cell, *width);
                let space = " ".repeat(width - width_of(&cell));
                let (before, after) = if *align == Align::Right { (&*space, "") } else { ("", &*space) };
                line.extend([before, &cell, after, GAP]);
            }
            cut(line.trim_end(), width)
        };
        self.rows.iter().map(line).collect()
    }

    /// Returns the columns' widths: the widest words give way first. If that is not enough, the last columns are left out.
    fn fitting(&self, width: usize) -> Vec<usize> {
        let natural = |column: usize| self.rows.iter().map(|row| width_of(&row[column])).max().unwrap_or(0);
        let natural: Vec<usize> = (0..self.align.len()).map(natural).collect();
        let mut columns = natural.len();
        loop {
            let mut widths = natural[..columns].to_vec();
            let room = width.saturating_sub(GAP.len() * columns.saturating_sub(1));
            while widths.iter().sum::<usize>() > room
                && let Some(widest) = self.widest_words(&widths)
            {
                widths[widest] -= 1;
            }
            if widths.iter().sum::<usize>() <= room || columns <= 1 {
                return widths;
            }
            columns -= 1;
        }
    }

    /// Returns the widest column that may be made narrower.
    fn widest_words(&self, widths: &[usize]) -> Option<usize> {
        (0..widths.len())
            .filter(|&column| self.align[column] == Align::Left && widths[column] > LEAST)
            .max_by_key(|&column| widths[column])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::width as width_of;

    fn jobs() -> Grid {
        let mut grid = Grid::new([("JOB", Align::Left), ("NAME", Align::Left), ("ROWS", Align::Right)]);
        grid.row(["j-ab12cd34", "nightly reviews of the whole catalogue", "1,000,000"]);
        grid.row(["j-ef56gh78", "日本語", "20"]);
        grid
    }

    #[test]
    fn columns_are_aligned_by_their_width_on_a_terminal() {
        let expected = "\
JOB         NAME                                         ROWS
j-ab12cd34  nightly reviews of the whole catalogue  1,000,000
j-ef56gh78  日本語                                         20
";
        assert_eq!(jobs().render(80), expected);
        assert_eq!(jobs().render(usize::MAX), expected);
    }

    #[test]
    fn words_give_way_and_ids_and_numbers_stay() {
        let expected = "\
JOB         NAME                    ROWS
j-ab12cd34  nightly reviews …  1,000,000
j-ef56gh78  日本語                    20
";
        assert_eq!(jobs().render(40), expected);
    }

    #[test]
    fn no_line_is_ever_wider_than_asked() {
        for width in 1..70 {
            for line in jobs().render(width).lines() {
                assert!(width_of(line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn a_cell_cannot_break_its_row() {
        let mut grid = Grid::new([("A", Align::Left), ("B", Align::Left)]);
        grid.row(["x\ny\x1b[2J"]).row(["1", "2", "3"]);
        assert_eq!(grid.render(80), "A          B\nx^Jy^[[2J\n1          2\n");
    }

    #[test]
    fn ids_are_never_cut_and_the_last_column_goes_first() {
        let mut grid = Grid::new([("ID", Align::Whole), ("MODEL", Align::Left), ("ENDS BY", Align::Left)]);
        grid.row(["6bb226c2-6b29-4ed2", "Llama-3.2-3B-Instruct-Turbo", "11-24 15:30"]);
        assert_eq!(
            grid.render(50),
            "\
ID                  MODEL              ENDS BY
6bb226c2-6b29-4ed2  Llama-3.2-3B-Ins…  11-24 15:30
"
        );
        assert_eq!(
            grid.render(40),
            "\
ID                  MODEL
6bb226c2-6b29-4ed2  Llama-3.2-3B-Instru…
"
        );
    }

    #[test]
    fn a_grid_with_headings_alone_is_empty() {
        assert!(Grid::new([("A", Align::Left)]).is_empty());
        assert!(!jobs().is_empty());
    }

    #[test]
    fn a_bare_grid_has_no_headings() {
        let mut grid = Grid::bare([Align::Right, Align::Left]);
        assert!(grid.is_empty());
        grid.row(["12 rows", "a"]).row(["1 row ", "b"]);
        assert_eq!(grid.lines(40), ["12 rows  a", " 1 row   b"]);
    }
}
