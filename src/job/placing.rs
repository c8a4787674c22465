//! Gives the files of answers their final names, before the answers are committed.
//!
//! llbatch writes and syncs the files of a group under temporary names. It commits notes of their final names, and renames the
//! files. Then it commits the outcomes, and removes the notes in the same commit. A killed process leaves notes: the next one
//! removes those files, because their rows are sent again.

use crate::completion::with_files;
use crate::context::Ctx;
use crate::error::Result;
use crate::outcome::Outcome;
use crate::produced::{ProducedDir, ProducedFile};
use crate::request::FilesDir;
use crate::store::{JobDb, PlacedFile};
use crate::text;
use crate::ui::Ui;

/// The files of a run's answers.
#[derive(Debug)]
pub(super) struct FilePlacer {
    dir: ProducedDir,
    ui: Ui,
    /// Files that have their names, while their outcomes may not be committed.
    placed: Vec<PlacedFile>,
    /// Files whose name was taken.
    renamed: u64,
}

impl FilePlacer {
    /// Opens the directory. Files that a killed run named for rows without an answer are removed.
    ///
    /// # Errors
    /// 74 if it cannot be written to.
    pub(super) fn open(place: &FilesDir, job: &str, db: &mut JobDb, ctx: &Ctx) -> Result<Self> {
        let dir = ProducedDir::open(place, job)?;
        let noted = db.noted_files()?;
        for (file, answered) in &noted {
            if !answered {
                dir.remove_unclaimed(&file.name, file.mark)?;
            }
        }
        if !noted.is_empty() {
            let files: Vec<PlacedFile> = noted.into_iter().map(|(file, _)| file).collect();
            db.drop_file_notes(&files)?;
            db.commit(true)?;
        }
        Ok(Self { dir, ui: ctx.ui.clone(), placed: Vec::new(), renamed: 0 })
    }

    /// Gives the files of these outcomes their place, and lists them in the bodies. The notes on them are dropped in the open
    /// group, to be committed with the outcomes.
    ///
    /// # Errors
    /// 74 if a file cannot be written. Its outcome has it still attached.
    pub(super) fn place<'o>(&mut self, outcomes: impl Iterator<Item = &'o mut Outcome>, db: &mut JobDb) -> Result<()> {
        let mut outcomes: Vec<&mut Outcome> = outcomes.filter(|outcome| !outcome.attached.is_empty()).collect();
        if outcomes.is_empty() {
            return Ok(());
        }
        let mut staged = Vec::new();
        for outcome in &outcomes {
            staged.extend(self.dir.stage(outcome)?);
        }
        loop {
            self.dir.choose(&mut staged)?;
            db.note_files(&notes(&staged))?;
            db.commit(true)?;
            if self.dir.publish(&mut staged)? {
                break;
            }
            // Somebody else took a name since it was chosen. The notes on such a name match no file.
        }
        for outcome in &mut outcomes {
            let files = self.dir.listed(staged.iter().filter(|file| file.row == outcome.row));
            outcome.body = Some(with_files(outcome.body.as_deref(), &files).into());
            outcome.attached.clear();
        }
        self.renamed += staged.iter().filter(|file| file.is_renamed()).count() as u64;
        self.placed = notes(&staged);
        self.settle(db)
    }

    /// Drops the notes on files that have their names. To be done again where the group was rolled back: with notes, the files
    /// of rows that are committed later would be taken for those of rows without an answer.
    pub(super) fn settle(&self, db: &mut JobDb) -> Result<()> {
        if self.placed.is_empty() { Ok(()) } else { db.drop_file_notes(&self.placed) }
    }

    /// Says how many files have another name than their row's.
    pub(super) fn say_renamed(&self) {
        if self.renamed > 0 {
            let count = text::plural(self.renamed, "file");
            self.ui.note(&format!(
                "{count} got `~2` or more in the name, because the name of the row was taken; nothing was replaced"
            ));
        }
    }
}

fn notes(staged: &[ProducedFile]) -> Vec<PlacedFile> {
    staged.iter().map(|file| PlacedFile { row: file.row, name: file.name(), mark: file.mark() }).collect()
}
