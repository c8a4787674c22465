//! `llbatch models`: prices and other facts of models, with their sources.

use clap::Args;
use serde::Serialize;

use super::service::connect;
use super::{print_json, print_table};
use crate::atomic_file::AtomicFile;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::price::{BatchTerms, ListedPrice, Nanos, PriceEntry, PriceTable, Refreshed};
use crate::settings::{lister, models_path};
use crate::store::Store;
use crate::text::{self, Align, Grid};

/// Show known models: prices in USD per million tokens, context, batch support, and the source of each figure
///
/// Built-in figures have a source and a date. `--refresh` stores the service's own figures. The config file takes
/// precedence.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch models llama
  llbatch models --refresh
  llbatch models --json | jq '.models[] | select(.batch == \"discounted\") | .model'")]
pub struct ModelsArgs {
    /// Only models whose name contains this text, ignoring case
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Request the service's list of models, and store it
    #[arg(long)]
    refresh: bool,
}

#[derive(Serialize)]
struct ModelsDocument {
    version: u8,
    models: Vec<ModelEntry>,
}

#[derive(Serialize)]
struct ModelEntry {
    model: String,
    /// Price in USD per million tokens.
    input: Option<Nanos>,
    output: Option<Nanos>,
    /// Tokens of the prompt that the service has in its cache.
    cached_input: Option<Nanos>,
    batch_input: Option<Nanos>,
    batch_output: Option<Nanos>,
    context: Option<u64>,
    /// The user's own bound on the prompt tokens of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_tokens: Option<u64>,
    max_output: Option<u64>,
    batch: BatchTerms,
    source: String,
    as_of: String,
    note: String,
}

/// Runs the subcommand.
pub fn run(args: &ModelsArgs, ctx: &Ctx) -> Result<Exit> {
    let refreshed = if args.refresh { Some(refresh(ctx)?) } else { None };
    let table = refreshed.as_ref().unwrap_or(&ctx.settings.prices);
    let wanted = args.filter.as_deref().unwrap_or_default().to_lowercase();
    let mut found: Vec<&PriceEntry> =
        table.iter().filter(|entry| entry.model.to_lowercase().contains(&wanted)).collect();
    found.sort_by_key(|entry| entry.model.to_lowercase());
    if ctx.json {
        print_json(&ModelsDocument { version: 1, models: found.into_iter().map(ModelEntry::of).collect() }, ctx)?;
        return Ok(Exit::Ok);
    }
    if found.is_empty() {
        ctx.ui.note(&format!("no known model name contains {wanted:?}"));
        ctx.ui.hint("`llbatch models --refresh` asks the service");
        return Ok(Exit::Ok);
    }
    print_table(&grid(&found), ctx)?;
    Ok(Exit::Ok)
}

fn grid(found: &[&PriceEntry]) -> Grid {
    let mut grid = Grid::new([
        ("MODEL", Align::Whole),
        ("INPUT", Align::Right),
        ("OUTPUT", Align::Right),
        ("CONTEXT", Align::Right),
        ("BATCH", Align::Whole),
        ("AS OF", Align::Left),
        ("SOURCE; NOTE", Align::Left),
    ]);
    for entry in found {
        let price = |nanos: Option<u64>| nanos.map_or_else(|| "?".to_owned(), |n| Nanos(n.into()).human());
        let batch = match (entry.batch, entry.batch_price()) {
            (BatchTerms::Discounted, Some(price)) => {
                format!("{} / {}", Nanos(price.input.into()).human(), Nanos(price.output.into()).human())
            }
            (batch, _) => batch.as_str().replace('_', " "),
        };
        let cached =
            entry.price.and_then(|price| price.cached).map(|n| format!("cached input {}", Nanos(n.into()).human()));
        let remarks = [cached.unwrap_or_default(), entry.remarks()];
        let remarks = remarks.iter().filter(|remark| !remark.is_empty()).cloned().collect::<Vec<_>>().join("; ");
        grid.row([
            entry.model.clone(),
            price(entry.price.map(|p| p.input)),
            price(entry.price.map(|p| p.output)),
            entry.context.map_or_else(|| "?".to_owned(), text::count),
            batch,
            entry.as_of.clone(),
            if remarks.is_empty() { entry.source.clone() } else { format!("{}; {remarks}", entry.source) },
        ]);
    }
    grid
}

impl ModelEntry {
    fn of(entry: &PriceEntry) -> Self {
        let usd = |nanos: u64| Nanos(nanos.into());
        let batch = entry.batch_price();
        Self {
            model: entry.model.clone(),
            input: entry.price.map(|price| usd(price.input)),
            output: entry.price.map(|price| usd(price.output)),
            cached_input: entry.price.and_then(|price| price.cached).map(usd),
            batch_input: batch.map(|price| usd(price.input)),
            batch_output: batch.map(|price| usd(price.output)),
            context: entry.context,
            image_tokens: entry.image_tokens,
            max_output: entry.max_output,
            batch: entry.batch,
            source: entry.source.clone(),
            as_of: entry.as_of.clone(),
            note: entry.remarks(),
        }
    }
}

/// Downloads the service's list and stores it beside the jobs.
fn refresh(ctx: &Ctx) -> Result<PriceTable> {
    let service = connect(ctx)?;
    let runtime = crate::job::batch::runtime()?;
    let models = runtime
        .block_on(service.client.models())
        .map_err(|failure| crate::batch::driver::error("asking for the list of models", &failure))?;
    if models.is_empty() {
        return Err(Error::new(Exit::TempFail, "the service lists no models; llbatch keeps what it knew"));
    }
    let lister = lister(ctx.settings.service_name(), &service.name);
    let refreshed = Refreshed {
        service: lister.clone(),
        as_of: jiff::Zoned::now().date().to_string(),
        models: models
            .into_iter()
            .map(|m| ListedPrice { model: m.id, context: m.context, price: m.price, cached: m.cached })
            .collect(),
    };
    // Creates the directory if it is missing.
    Store::open(ctx.settings.state_place()?)?;
    let path = models_path(ctx.settings.state_dir()?, &lister);
    let mut file = AtomicFile::create(&path, 0o600)?;
    serde_json::to_writer(&mut file, &refreshed)
        .map_err(|e| Error::io(format!("{}: cannot be written", path.display()), e.into()))?;
    file.commit()?;
    ctx.ui.note(&format!("{} listed by {}", text::plural(refreshed.models.len() as u64, "model"), service.name));
    ctx.settings.reprice(Some(&refreshed))
}
