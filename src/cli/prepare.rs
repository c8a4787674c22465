//! `llbatch prepare`: the batch files that `submit` would upload.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::args::InputArgs;
use super::print_json;
use crate::check::notices;
use crate::check::problems::{self, Deed};
use crate::check::{CheckOptions, Checked, check_with};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::{Format, Inputs};
use crate::job::spool_stdin;
use crate::request::RequestBuilder;
use crate::request::batch_line::Limits;
use crate::results::same_file;
use crate::split::stage::{Stage, file_name, uncounted};
use crate::split::{Opened, Shard, Split, SplitOptions, split};
use crate::store::Store;
use crate::text::{self, Align, Grid};
use crate::ui::Results;

/// Write the batch files that `submit` would upload, one or more for each model
///
/// Sends nothing and needs no key. Files appear when all of them are complete, in place of older ones of the same names;
/// while there is an invalid row, none does (--skip-invalid leaves such rows out, exit 3).
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Prepare {
    #[command(flatten)]
    input: InputArgs,

    /// A directory, made if missing, for MODEL-001.jsonl and so on; or, if all fits into one batch, a .jsonl file
    #[arg(short, long, value_name = "DIR|FILE", required = true, help_heading = "Results")]
    output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  llbatch prepare samples/batch.jsonl -o shards/
  llbatch prepare reviews.csv -m … --prompt 'Positive or negative? {{ text }}' --max-tokens 5 -o batch.jsonl";

#[derive(Serialize)]
struct Document<'a> {
    version: u8,
    shards: Vec<Entry<'a>>,
    /// Of the input, bad ones among them.
    rows: u64,
    bad_rows: u64,
}

#[derive(Serialize)]
struct Entry<'a> {
    file: String,
    model: &'a str,
    rows: u64,
    bytes: u64,
}

/// Where the files go.
enum BodyPlace {
    File(PathBuf),
    Dir(PathBuf),
}

/// Runs the subcommand.
pub fn run(args: &Prepare, ctx: &Ctx) -> Result<Exit> {
    let stdin = args.input.stdin()?;
    if args.input.inputs.is_empty() {
        return Err(Error::usage("no INPUT: name files, or `-` for standard input")
            .hint("llbatch prepare prompts.jsonl -o shards/"));
    }
    args.input.batch_endpoint()?;
    let place = BodyPlace::of(&args.output)?;
    let shape = RequestBuilder::new(&args.input.params(ctx.settings.run.model.as_deref())?)?;
    let progress = ctx.ui.progress(Results::Elsewhere);

    progress.phase("reading input");
    let format = args.input.format();
    let (inputs, _spool) = if stdin {
        let (file, _) = spool_stdin(&Store::open(&ctx.settings.state_dir.value)?)?;
        (Inputs::spooled(file.path().to_owned(), "-", format.unwrap_or(Format::Jsonl)), Some(file))
    } else {
        (Inputs::resolve(&args.input.inputs, format)?, None)
    };
    let stamp = inputs.stamp();

    progress.phase("checking input");
    let options = CheckOptions {
        max_problems: args.input.max_problems,
        table: Some(&ctx.settings.prices),
        ..CheckOptions::default()
    };
    let checked = check_with(&inputs, &shape, &options, &|_| (), &mut |_, _| ())?;
    problems::report(&checked, args.input.skip_invalid, options.max_problems, Deed::Write, &ctx.ui)?;
    problems::say_stream_removed(&checked, &ctx.ui);
    notices::show(&notices::notices(&checked.models, &ctx.settings.prices), &ctx.ui);

    progress.phase("writing batch files");
    let made = place.make()?;
    let stage = Stage::new(0o666);
    let options = SplitOptions {
        open: &|number, model| place.open(number, model, &stage, &args.input.inputs),
        limits: Limits::default(),
        threads: options.threads,
        first_number: 1,
        only: None,
        digests: false,
        max_problems: options.max_problems,
    };
    let written = split(&inputs, &shape, &checked, &options, &mut |_| Ok(())).and_then(|written| {
        if inputs.stamp() != stamp {
            return Err(Error::new(Exit::Failure, "the input was written to while it was read; nothing was written")
                .hint("run the same command again, when nobody writes to the input"));
        }
        judge(&written, &checked, args, ctx)?;
        place.fits(&written.shards)?;
        Ok(written)
    });
    progress.finish();
    let written = match written.and_then(|written| stage.commit().map(|()| written)) {
        Ok(written) => written,
        Err(error) => {
            if let Some(dir) = made {
                // As it was; what others put into it meanwhile keeps it.
                let _ = fs::remove_dir(dir);
            }
            return Err(error);
        }
    };

    let shards = &written.shards;
    let bad_rows = checked.bad_rows + written.oversize_count;
    place.say_others(shards, ctx);
    if ctx.json {
        print_json(&Document::new(shards, checked.rows, bad_rows), ctx)?;
    }
    ctx.ui.block(&table(shards).render(ctx.ui.width()));
    Ok(if bad_rows > 0 { Exit::RowsFailed } else { Exit::Ok })
}

/// Refuses what is left of an input, or says what is left out.
fn judge(written: &Split, checked: &Checked, args: &Prepare, ctx: &Ctx) -> Result<()> {
    if written.oversize_count > 0 {
        problems::list(&written.oversize, written.oversize_count, args.input.max_problems, &ctx.ui);
        problems::judge(written.oversize_count, checked.rows, args.input.skip_invalid, Deed::Write, &ctx.ui)?;
    }
    if written.shards.is_empty() {
        return Err(Error::new(Exit::Data, "every row is invalid; nothing was written").hint("mend the rows"));
    }
    Ok(())
}

fn table(shards: &[Shard]) -> Grid {
    let columns = [("FILE", Align::Whole), ("MODEL", Align::Left), ("ROWS", Align::Right), ("SIZE", Align::Right)];
    let mut table = Grid::new(columns);
    for shard in shards {
        let file = shard.path.display().to_string();
        table.row([file, shard.model.to_string(), text::count(shard.rows), text::bytes(shard.bytes)]);
    }
    table
}

impl<'a> Document<'a> {
    fn new(shards: &'a [Shard], rows: u64, bad_rows: u64) -> Self {
        let entry = |shard: &'a Shard| Entry {
            file: shard.path.display().to_string(),
            model: &shard.model,
            rows: shard.rows,
            bytes: shard.bytes,
        };
        Self { version: 1, shards: shards.iter().map(entry).collect(), rows, bad_rows }
    }
}

impl BodyPlace {
    /// A `.jsonl` name is a file, as is what exists and is none that could be lost, such as `/dev/stdout`; everything else
    /// is a directory.
    fn of(path: &Path) -> Result<Self> {
        let shown = path.display();
        if path.as_os_str() == "-" {
            return Err(Error::usage("-o -: name a directory or a .jsonl file")
                .hint("for a single batch -o /dev/stdout works as well"));
        }
        let jsonl = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("jsonl"));
        let slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => Ok(Self::Dir(path.to_owned())),
            // `/dev/stdout` may be any kind of file.
            Ok(there) if jsonl || !there.is_file() || path.starts_with("/dev") => Ok(Self::File(path.to_owned())),
            Ok(_) => Err(Error::usage(format!("-o {shown}: that is a file, and no .jsonl file"))
                .hint("name a directory, or a file that ends in .jsonl")),
            Err(_) if jsonl && !slash => Ok(Self::File(path.to_owned())),
            Err(_) => Ok(Self::Dir(path.to_owned())),
        }
    }

    /// Makes the directory; says which one, if it was missing.
    fn make(&self) -> Result<Option<&Path>> {
        match self {
            Self::Dir(dir) if !dir.is_dir() => {
                fs::create_dir_all(dir)
                    .map_err(|e| Error::io(format_args!("{}: the directory cannot be made", dir.display()), e))?;
                Ok(Some(dir))
            }
            Self::Dir(_) | Self::File(_) => Ok(None),
        }
    }

    fn open(&self, number: u32, model: &str, stage: &Stage, inputs: &[PathBuf]) -> Result<Opened> {
        let path = match self {
            // Only to count how many there would have to be.
            Self::File(path) if number > 1 => return Ok(uncounted(path)),
            Self::File(path) => path.clone(),
            Self::Dir(dir) => dir.join(file_name(number, model)),
        };
        if inputs.iter().any(|input| same_file(input, &path)) {
            return Err(Error::usage(format!("{}: that is an input, it would be written over", path.display()))
                .hint("write to another directory"));
        }
        stage.open(path)
    }

    /// Whether the place can hold so many files.
    fn fits(&self, shards: &[Shard]) -> Result<()> {
        match self {
            Self::File(path) if shards.len() > 1 => {
                let text = format!(
                    "-o {}: the input makes {} batches, which do not fit into one file; nothing was written",
                    path.display(),
                    text::count(shards.len() as u64)
                );
                let dir = path.with_extension("");
                Err(Error::new(Exit::Data, text).hint(format!("name a directory: -o {}/", dir.display())))
            }
            Self::File(_) | Self::Dir(_) => Ok(()),
        }
    }

    /// Says what else lies in the directory: who uploads all of it would pay for that too.
    fn say_others(&self, shards: &[Shard], ctx: &Ctx) {
        let Self::Dir(dir) = self else { return };
        let ours: HashSet<&Path> = shards.iter().map(|shard| shard.path.as_path()).collect();
        let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut others: Vec<PathBuf> = entries
            .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl") && !ours.contains(path.as_path()))
            .collect();
        others.sort();
        if let Some(first) = others.first() {
            ctx.ui.warn(&format!(
                "{} also holds {} that this command did not write, such as {}",
                dir.display(),
                text::plural(others.len() as u64, "other .jsonl file"),
                first.display()
            ));
        }
    }
}
