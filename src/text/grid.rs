//! Aligned columns, cut to a width. comfy-table can neither leave out the last columns nor cut one cell before another.

use super::{cut, fill, one_line, width as width_of};

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

/// Chooses the colour of a cell, as the parameter of an SGR sequence, by its heading and its text.
pub type CellPaint = fn(&str, &str) -> Option<&'static str>;

/// Rows of text in columns, with or without headings.
#[derive(Debug, Clone)]
pub struct Grid {
    align: Vec<Align>,
    /// The headings, if there are any, then the rows. Each has as many cells as there are columns.
    rows: Vec<Vec<String>>,
    /// Number of headings in `rows`: 0 or 1.
    headings: usize,
    /// In a narrow place, the first cell of a row stands on a line of its own.
    stacks: bool,
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
        Self { align: align.into(), rows: Vec::new(), headings: 0, stacks: false }
    }

    /// Puts the first cell of a row on a line of its own, and the others below it, where one line is too narrow for all.
    pub fn stacking(mut self) -> Self {
        self.stacks = true;
        self
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

    /// Renders the lines as [`Grid::render`] does, with colours.
    pub fn render_painted(&self, width: usize, paint: CellPaint) -> String {
        self.painted_lines(width, paint).into_iter().map(|line| line + "\n").collect()
    }

    /// Renders the lines without their line ends.
    pub fn lines(&self, width: usize) -> Vec<String> {
        self.painted_lines(width, |_, _| None)
    }

    fn painted_lines(&self, width: usize, paint: CellPaint) -> Vec<String> {
        let widths = self.fitting(width);
        if self.stacks && widths.len() < self.align.len() {
            return self.stacked_lines(width, paint);
        }
        let line = |(number, row): (usize, &Vec<String>)| {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                let cell = cut(&row[column], *width);
                let space = " ".repeat(width - width_of(&cell));
                let (before, after) = if self.align[column] == Align::Right { (&*space, "") } else { ("", &*space) };
                let heading = if self.headings > 0 { self.rows[0][column].as_str() } else { "" };
                match paint(heading, &cell).filter(|_| number >= self.headings) {
                    Some(code) => line.extend([before, "\x1b[", code, "m", &cell, "\x1b[0m", after, GAP]),
                    None => line.extend([before, &cell, after, GAP]),
                }
            }
            let line = line.trim_end();
            if line.contains('\x1b') { line.to_owned() } else { cut(line, width) }
        };
        self.rows.iter().enumerate().map(line).collect()
    }

    /// Renders the lines without their line ends, and leaves no column out: where one line is too narrow for all, a row is
    /// broken between its cells.
    pub fn broken_lines(&self, width: usize) -> Vec<String> {
        if self.fitting(width).len() == self.align.len() {
            return self.lines(width);
        }
        let room = width.saturating_sub(GAP.len());
        let broken = |row: &Vec<String>| {
            let lines = fill(row.iter().filter(|cell| !cell.is_empty()), room);
            lines
                .into_iter()
                .enumerate()
                .map(|(number, line)| match number {
                    0 => cut(&line, width),
                    _ => format!("{GAP}{}", cut(&line, room)),
                })
                .collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(broken).collect()
    }

    /// The columns after the first.
    fn rest(&self) -> Self {
        Self {
            align: self.align[1..].to_vec(),
            rows: self.rows.iter().map(|row| row[1..].to_vec()).collect(),
            headings: self.headings,
            stacks: false,
        }
    }

    /// Renders each first cell on a line of its own and the others below it.
    fn stacked_lines(&self, width: usize, paint: CellPaint) -> Vec<String> {
        let below = self.rest().painted_lines(width.saturating_sub(GAP.len()), paint);
        let both = |(row, below): (&Vec<String>, String)| [cut(&row[0], width), format!("{GAP}{below}")];
        self.rows.iter().zip(below).flat_map(both).collect()
    }

    /// Returns true if `width` has room for every cell in full.
    pub fn fits(&self, width: usize) -> bool {
        self.fitting(width) == self.fitting(usize::MAX)
    }

    /// Names the columns that `width` has no room for.
    pub fn hidden(&self, width: usize) -> Vec<&str> {
        let mut shown = self.fitting(width).len();
        if self.stacks && shown < self.align.len() {
            shown = 1 + self.rest().fitting(width.saturating_sub(GAP.len())).len();
        }
        self.rows.first().into_iter().flat_map(|row| &row[shown..]).map(String::as_str).collect()
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
    fn columns_without_room_are_named() {
        assert_eq!(jobs().hidden(40), [""; 0]);
        assert_eq!(jobs().hidden(25), ["ROWS"]);
        assert_eq!(jobs().hidden(12), ["NAME", "ROWS"]);
        assert!(jobs().fits(61) && !jobs().fits(60), "a cell would be cut");
    }

    #[test]
    fn first_cells_stand_on_lines_of_their_own_rather_than_be_cut() {
        let mut grid = Grid::new([("MODEL", Align::Whole), ("ROWS", Align::Right), ("COST", Align::Right)]).stacking();
        grid.row(["maker/Llama-3.2-3B", "1,000", "$0.01"]).row(["maker/Llama-3.3-70B", "20", "$12"]);
        assert_eq!(grid.lines(80)[1], "maker/Llama-3.2-3B   1,000  $0.01");
        assert_eq!(
            grid.render(24),
            "\
MODEL
   ROWS   COST
maker/Llama-3.2-3B
  1,000  $0.01
maker/Llama-3.3-70B
     20    $12
"
        );
        assert_eq!(grid.hidden(24), [""; 0]);
        assert_eq!(grid.hidden(10), ["COST"]);
    }

    #[test]
    fn row_is_broken_between_cells_rather_than_lose_one() {
        let mut grid = Grid::bare([Align::Right, Align::Right, Align::Left]);
        grid.row(["1,000 rows", "$0.000006", "in real time"]).row(["1 row", "", "in batches"]);
        assert_eq!(grid.broken_lines(40), grid.lines(40));
        assert_eq!(grid.broken_lines(26), ["1,000 rows $0.000006", "  in real time", "1 row in batches"]);
    }

    #[test]
    fn a_colour_takes_no_room() {
        let mut grid = Grid::new([("STATE", Align::Left), ("N", Align::Right)]);
        grid.row(["failed", "1"]).row(["completed", "20"]);
        let paint: CellPaint = |heading, cell| (heading == "STATE" && cell == "failed").then_some("31");
        let expected = "STATE       N\n\x1b[31mfailed\x1b[0m      1\ncompleted  20\n";
        assert_eq!(grid.render_painted(80, paint), expected);
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
