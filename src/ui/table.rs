//! A small table for people: aligned columns, cut to the width with `…`.

use unicode_width::UnicodeWidthStr;

use super::escape;

/// Between two columns.
const GAP: &str = "  ";

/// A column is not made narrower than this: a job's id (`j-` and 8 characters) can always be read and copied.
const LEAST: usize = 10;

/// On which side a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words; such columns are the ones that are cut when the table is too wide.
    Left,
    /// Ids; never cut, because they are there to be copied.
    Whole,
    /// Numbers; never cut, because a cut number reads as another one.
    Right,
}

/// Rows of text under headings.
#[derive(Debug, Clone)]
pub struct Table {
    align: Vec<Align>,
    /// The headings, then the rows; every line has as many cells as there are columns.
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        let (names, align): (Vec<_>, Vec<_>) =
            columns.into_iter().map(|(name, align)| (name.to_owned(), align)).unzip();
        Self { align, lines: vec![names] }
    }

    /// Adds a row; missing cells are empty, cells beyond the columns are dropped. Control characters are made visible.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        let mut row: Vec<String> =
            cells.into_iter().take(self.align.len()).map(|cell| escape::line(cell.as_ref()).into_owned()).collect();
        row.resize(self.align.len(), String::new());
        self.lines.push(row);
        self
    }

    /// Whether there is nothing under the headings.
    pub fn is_empty(&self) -> bool {
        self.lines.len() == 1
    }

    /// The table as lines of at most `width` columns, each ended by a newline. `usize::MAX`: nothing is cut.
    pub fn render(&self, width: usize) -> String {
        let widths = self.fitting(width);
        let mut out = String::new();
        for line in &self.lines {
            let mut text = String::new();
            for ((cell, align), width) in line.iter().zip(&self.align).zip(&widths) {
                let cell = cut(cell, *width);
                let space = " ".repeat(width - cell.width());
                let (before, after) = if *align == Align::Right { (space.as_str(), "") } else { ("", space.as_str()) };
                text.extend([before, &cell, after, GAP]);
            }
            out.push_str(&cut(text.trim_end(), width));
            out.push('\n');
        }
        out
    }

    /// What each column gets. Where there is no room for all of them, the last ones are left out.
    fn fitting(&self, width: usize) -> Vec<usize> {
        let mut columns = self.align.len();
        loop {
            let widths = self.widths(width, columns);
            let wanted = widths.iter().sum::<usize>() + GAP.len() * columns.saturating_sub(1);
            if wanted <= width || columns <= 1 {
                return widths;
            }
            columns -= 1;
        }
    }

    /// What each of the first `columns` gets: the widest words give way first, until all fit or none can give more.
    fn widths(&self, width: usize, columns: usize) -> Vec<usize> {
        let mut widths: Vec<usize> =
            (0..columns).map(|column| self.lines.iter().map(|line| line[column].width()).max().unwrap_or(0)).collect();
        let room = width.saturating_sub(GAP.len() * widths.len().saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            let widest = (0..widths.len())
                .filter(|&column| self.align[column] == Align::Left && widths[column] > LEAST)
                .max_by_key(|&column| widths[column]);
            let Some(column) = widest else { break };
            widths[column] -= 1;
        }
        widths
    }
}

/// The text cut to `width` columns, the last of them being `…` if anything was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut end = 0;
    for (i, c) in text.char_indices() {
        // One column is for the mark.
        if text[..i + c.len_utf8()].width() >= width {
            break;
        }
        end = i + c.len_utf8();
    }
    if width == 0 { String::new() } else { format!("{}…", &text[..end]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> Table {
        let mut table = Table::new([("JOB", Align::Left), ("NAME", Align::Left), ("ROWS", Align::Right)]);
        table.row(["j-ab12cd34", "nightly reviews of the whole catalogue", "1,000,000"]);
        table.row(["j-ef56gh78", "日本語", "20"]);
        table
    }

    #[test]
    fn columns_are_aligned_by_what_the_eye_sees() {
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
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn a_cell_cannot_break_its_row() {
        let mut table = Table::new([("A", Align::Left), ("B", Align::Left)]);
        table.row(["x\ny\x1b[2J"]).row(["1", "2", "3"]);
        assert_eq!(table.render(80), "A          B\nx^Jy^[[2J\n1          2\n");
    }

    #[test]
    fn text_is_cut_between_characters() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(cut(text, width), expected, "{text} in {width}");
        }
    }

    #[test]
    fn ids_are_never_cut_and_the_last_column_goes_first() {
        let mut table = Table::new([("ID", Align::Whole), ("MODEL", Align::Left), ("ENDS BY", Align::Left)]);
        table.row(["6bb226c2-6b29-4ed2", "Llama-3.2-3B-Instruct-Turbo", "11-24 15:30"]);
        assert_eq!(
            table.render(50),
            "\
ID                  MODEL              ENDS BY
6bb226c2-6b29-4ed2  Llama-3.2-3B-Ins…  11-24 15:30
"
        );
        assert_eq!(
            table.render(40),
            "\
ID                  MODEL
6bb226c2-6b29-4ed2  Llama-3.2-3B-Instru…
"
        );
    }

    #[test]
    fn an_empty_table_says_so() {
        assert!(Table::new([("A", Align::Left)]).is_empty());
        assert!(!jobs().is_empty());
    }
}
