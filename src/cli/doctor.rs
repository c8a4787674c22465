//! `llbatch doctor`: shows and tests the settings that a command would use.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::check::learned;
use super::service::{connect, connect_to, explain_keyless, invalid_base, missing_certificates, unencrypted};
use super::{print_json, print_table, print_text};
use crate::api::{Client, Dialect, OwnHeader, canonical_base, proxy_of};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::state_place::StatePlace;
use crate::store::Store;
use crate::text::{self, Align, Grid};

/// Show each setting, its source, and problems with it
///
/// Never shows the key itself. Sends nothing unless --online is passed; that request is free. Exits with the code
/// that other commands would exit with.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch doctor
  llbatch doctor --online && llbatch submit prompts.jsonl
  llbatch doctor --json | jq '.checks[] | select(.problem)'")]
pub struct DoctorArgs {
    /// Also request the list of models with the key
    #[arg(long)]
    online: bool,
}

#[derive(Serialize)]
struct DoctorDocument {
    version: u8,
    exit_code: u8,
    checks: Vec<Check>,
}

/// One setting or one test.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    value: String,
    /// Origin of the value; empty for a test.
    from: String,
    problem: Option<String>,
    hint: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

impl Check {
    fn new(name: &'static str, value: impl Into<String>, from: impl Into<String>) -> Self {
        Self { name, value: value.into(), from: from.into(), problem: None, hint: None, exit: Exit::Ok }
    }

    fn failed(mut self, error: &Error) -> Self {
        self.problem = Some(error.to_string());
        self.hint.clone_from(&error.hint);
        self.exit = error.exit;
        self
    }
}

/// Runs the subcommand.
pub fn run(args: &DoctorArgs, ctx: &Ctx) -> Result<Exit> {
    let mut checks = vec![Check::new("version", env!("CARGO_PKG_VERSION"), ""), config(ctx)];
    checks.extend(service(ctx));
    checks.push(key(ctx));
    checks.extend(base_urls(ctx));
    checks.extend([proxy(ctx), certificates(ctx), state_dir(ctx)]);
    checks.extend(damaged_jobs(ctx));
    checks.extend([prices(ctx), estimates(ctx)]);
    checks.extend(budgets(ctx));
    checks.extend(signature(ctx));
    if args.online {
        checks.extend(online(ctx));
    }
    let exit = checks.iter().fold(Exit::Ok, |exit, check| match check.exit {
        Exit::Ok => exit,
        failed => failed.worst(exit),
    });
    if ctx.json {
        print_json(&DoctorDocument { version: 1, exit_code: exit.code(), checks }, ctx)?;
        return Ok(exit);
    }
    let mut table = Grid::new([("CHECK", Align::Whole), ("VALUE", Align::Whole), ("FROM", Align::Left)]);
    for check in &checks {
        table.row([check.name, &check.value, &check.from]);
    }
    let width = ctx.ui.table_width();
    if table.fits(width) {
        print_table(&table, ctx)?;
    } else {
        print_text(&narrow(&checks, width), ctx)?;
    }
    for (number, check) in checks.iter().enumerate() {
        // A missing key is also the reason why the service is not asked.
        let is_said = checks[..number].iter().any(|said| said.problem == check.problem && said.hint == check.hint);
        if let Some(problem) = check.problem.as_ref().filter(|_| !is_said) {
            ctx.ui.warn(&format!("{}: {problem}", check.name));
        }
        if let Some(hint) = check.hint.as_ref().filter(|_| !is_said) {
            ctx.ui.hint(hint);
        }
    }
    if exit == Exit::Ok && !args.online && !ctx.settings.sandbox {
        ctx.ui.hint("`llbatch doctor --online` asks the service whether it accepts the key");
    }
    Ok(exit)
}

/// Lists the checks where the columns have no room: the source stands behind the value, and long ones go over several lines.
fn narrow(checks: &[Check], width: usize) -> String {
    let names = checks.iter().map(|check| text::width(check.name)).max().unwrap_or(0) + 2;
    let lines = |check: &Check| {
        let from = if check.from.is_empty() { String::new() } else { format!(" ({})", check.from) };
        let value = text::one_line(&check.value).into_owned() + &from;
        let lines = text::fill(value.split(' '), width.saturating_sub(names));
        let line = |(number, line): (usize, &String)| {
            let name = if number == 0 { check.name } else { "" };
            format!("{name:names$}{line}\n")
        };
        lines.iter().enumerate().map(line).collect::<String>()
    };
    checks.iter().map(lines).collect()
}

fn config(ctx: &Ctx) -> Check {
    let path = &ctx.settings.config_path;
    if path.value.as_os_str().is_empty() {
        return Check::new("config file", "none; the home directory is unknown", "");
    }
    let shown = path.value.display();
    let value = if ctx.settings.config_found { shown.to_string() } else { format!("{shown} (missing)") };
    Check::new("config file", value, path.origin.to_string())
}

/// The service of the config file that is used, and others that are there.
fn service(ctx: &Ctx) -> Vec<Check> {
    let settings = &ctx.settings;
    if settings.sandbox {
        return Vec::new();
    }
    let Some(used) = &settings.service else {
        let others = (!settings.services.is_empty()).then(|| settings.services.join(", "));
        return others.map(|names| Check::new("other services", names, "config file")).into_iter().collect();
    };
    let mut checks = vec![Check::new("service name", &used.name.value, used.name.origin.to_string())];
    if !used.headers.is_empty() {
        // Their values may be secrets.
        let names: Vec<&str> = used.headers.iter().map(OwnHeader::name).collect();
        checks.push(Check::new("headers", names.join(", "), "config file"));
    }
    if used.dialect == Dialect::Openai {
        checks.push(Check::new("batches", "in OpenAI's dialect", "config file"));
    }
    checks
}

fn key(ctx: &Ctx) -> Check {
    if ctx.settings.sandbox {
        return Check::new("API key", "not needed", "flag --sandbox");
    }
    let from = ctx.settings.key_origin().unwrap_or_default();
    match ctx.settings.key() {
        Ok(None) if ctx.settings.refuses_key() => Check::new("API key", "none is sent", from),
        Ok(None) => Check::new("API key", "none is configured; the service is asked without one", from),
        // A fingerprint distinguishes two keys and reveals nothing else about them.
        Ok(Some(key)) => {
            Check::new("API key", format!("present; fingerprint {}", &ctx.settings.account(&key)[..8]), from)
        }
        Err(error) if ctx.settings.key_is_unset() => Check::new("API key", "not set", from).failed(&error),
        Err(error) => Check::new("API key", if from.is_empty() { "missing" } else { "invalid" }, from).failed(&error),
    }
}

fn base_urls(ctx: &Ctx) -> Vec<Check> {
    if ctx.settings.sandbox {
        return vec![Check::new("base URL", "the built-in server", "flag --sandbox")];
    }
    let urls = std::iter::once(&ctx.settings.base_url.value).chain(ctx.settings.more_urls());
    urls.map(|url| base_url(url, ctx)).collect()
}

fn base_url(given: &str, ctx: &Ctx) -> Check {
    let origin = ctx.settings.base_url.origin.to_string();
    match canonical_base(given) {
        Ok(url) => {
            let check = Check::new("base URL", url.to_string(), origin);
            match unencrypted(&url, ctx) {
                Ok(problem) => Check { problem, ..check },
                Err(error) => check.failed(&error),
            }
        }
        Err(invalid) => Check::new("base URL", given, origin).failed(&invalid_base(invalid.to_string(), &invalid)),
    }
}

fn proxy(ctx: &Ctx) -> Check {
    let base = canonical_base(&ctx.settings.base_url.value).ok().filter(|_| !ctx.settings.sandbox);
    if let (Some(_), Err(error)) = (&base, ctx.settings.check_proxy()) {
        return Check::new("proxy", "invalid", "environment").failed(&error);
    }
    match base.as_ref().and_then(proxy_of) {
        Some(proxy) => Check::new("proxy", proxy.to_string(), "environment"),
        None => Check::new("proxy", "none", ""),
    }
}

/// Checks the certificate authorities that llbatch trusts.
fn certificates(ctx: &Ctx) -> Check {
    let name = "certificates";
    let base = canonical_base(&ctx.settings.base_url.value).ok().filter(|_| !ctx.settings.sandbox);
    let Some(base) = base.filter(|base| base.scheme() == "https") else {
        return Check::new(name, "not needed", "");
    };
    let given: Vec<_> = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter_map(|variable| Some((variable, std::path::PathBuf::from(std::env::var_os(variable)?))))
        .collect();
    let shown = |(_, path): &(&str, std::path::PathBuf)| {
        format!("{}{}", path.display(), if path.exists() { "" } else { " (missing)" })
    };
    let check = if given.is_empty() {
        Check::new(name, "the system's", "")
    } else {
        let from = given.iter().map(|(variable, _)| *variable).collect::<Vec<_>>().join(", ");
        Check::new(name, given.iter().map(shown).collect::<Vec<_>>().join(", "), format!("environment, {from}"))
    };
    match connect_to(base.to_string(), None, Vec::new()) {
        Ok(_) => Check { problem: missing_certificates(), ..check },
        Err(error) => check.failed(&error),
    }
}

fn state_dir(ctx: &Ctx) -> Check {
    let dir = match (&ctx.settings.state, ctx.settings.state_dir()) {
        (Some(dir), _) => dir,
        (None, unknown) => {
            let check = Check::new("state directory", "unknown", "");
            return unknown.err().map_or(check.clone(), |error| check.failed(&error));
        }
    };
    let shown = dir.value.display();
    let from = dir.origin.to_string();
    let place = StatePlace { dir: &dir.value, mode: ctx.settings.state_mode };
    match jobs(place) {
        Ok(Some(jobs)) => {
            let check = Check::new("state directory", format!("{shown} ({})", text::plural(jobs, "job")), from);
            exposed(check, place)
        }
        Ok(None) => Check::new("state directory", format!("{shown} (not created yet)"), from),
        Err(error) => Check::new("state directory", shown.to_string(), from).failed(&error),
    }
}

/// Names the jobs whose files are missing or damaged. `None`: all can be read.
fn damaged_jobs(ctx: &Ctx) -> Option<Check> {
    let place = ctx.settings.state_place().ok().filter(|place| place.dir.join("ledger.db").exists())?;
    let store = Store::open(place).ok()?;
    let jobs = store.ledger().ok()?.recent(u32::MAX).ok()?;
    let read = |id: &str| {
        let db = store.open_job(id)?;
        db.batches().and_then(|_| db.counts())
    };
    let damaged: Vec<_> = jobs.iter().filter_map(|job| Some((&*job.id, read(&job.id).err()?))).collect();
    let (_, first) = damaged.first()?;
    let names: Vec<&str> = damaged.iter().map(|(id, _)| *id).collect();
    let value = format!("{} of {} cannot be read", damaged.len(), text::plural(jobs.len() as u64, "job"));
    let problem = Some(format!("{}: {first}", names.join(", ")));
    Some(Check { problem, hint: first.hint.clone(), ..Check::new("jobs", value, "") })
}

/// Adds what others may change in the state directory. llbatch works all the same.
fn exposed(check: Check, place: StatePlace<'_>) -> Check {
    let found = Store::open(place).map(|store| store.exposures()).unwrap_or_default();
    if found.is_empty() {
        return check;
    }
    let hint =
        "a state directory has one owner, who alone may write to it: choose another one, or change its owner and mode";
    Check { problem: Some(found.join("; ")), hint: Some(hint.to_owned()), ..check }
}

/// Counts the jobs in `dir`, after testing that it can take another. `None`: the folder can be created.
fn jobs(place: StatePlace<'_>) -> Result<Option<u64>> {
    let dir = place.dir;
    let trial = |at: &Path| {
        tempfile::tempfile_in(at).map(drop).map_err(|e| Error::io(format!("{}: cannot be written", at.display()), e))
    };
    if !dir.exists() {
        let whole = std::path::absolute(dir).map_err(|e| Error::io(format!("{}: invalid path", dir.display()), e))?;
        let above = whole.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        return trial(above).map(|()| None);
    }
    trial(dir)?;
    let store = Store::open(place)?;
    store.lock("doctor")?;
    Ok(Some(store.ledger()?.recent(u32::MAX)?.len() as u64))
}

fn prices(ctx: &Ctx) -> Check {
    let (mut models, mut newest) = (0_u64, "");
    for entry in ctx.settings.prices.iter() {
        models += 1;
        if entry.as_of.starts_with("20") {
            newest = newest.max(&entry.as_of);
        }
    }
    let age = if newest.is_empty() { String::new() } else { format!(", the newest of {newest}") };
    Check::new("prices", format!("{}{age}", text::plural(models, "model")), "`llbatch models`")
}

/// The corrections of token estimates that earlier jobs taught.
fn estimates(ctx: &Ctx) -> Check {
    match learned(ctx).len() {
        0 => Check::new("estimates", "uncorrected: no job of this service was long enough", ""),
        models => {
            let value = format!("corrected for {} by this service's jobs", text::plural(models as u64, "model"));
            Check::new("estimates", value, "`llbatch clean JOB` forgets what a job taught")
        }
    }
}

fn budgets(ctx: &Ctx) -> Vec<Check> {
    let each = [("budget per day", ctx.settings.budget.per_day), ("budget per month", ctx.settings.budget.per_month)];
    let given = each.into_iter().filter_map(|(name, amount)| Some((name, amount?)));
    given.map(|(name, amount)| Check::new(name, amount.human(), "config file")).collect()
}

/// The secret of `--notify`.
fn signature(ctx: &Ctx) -> Option<Check> {
    let check = Check::new("notify secret", ctx.settings.signing_file()?.display().to_string(), "config file");
    Some(match ctx.settings.notify_secret() {
        Ok(_) => check,
        Err(error) => check.failed(&error),
    })
}

/// Asks each base URL of the service for its models.
fn online(ctx: &Ctx) -> Vec<Check> {
    let service = match connect(ctx) {
        Ok(service) => service,
        Err(error) => {
            return vec![Check::new("service", "not asked", "").failed(&explain_keyless(error, ctx))];
        }
    };
    let several = !service.others.is_empty();
    let name = |client: &Client| if several { format!("{}: ", client.base()) } else { String::new() };
    service.remote().clients().map(|client| ask(client, &name(client), ctx)).collect()
}

/// Asks for the models. `name`: the base URL, if there are several.
fn ask(client: &Client, name: &str, ctx: &Ctx) -> Check {
    let started = Instant::now();
    let asked = || {
        let runtime = crate::job::batch::runtime()?;
        runtime
            .block_on(client.models())
            .map_err(|failure| crate::batch::driver::error("asking for the list of models", &failure))
    };
    match asked() {
        Ok(models) => {
            let listed = text::plural(models.len() as u64, "model");
            let took = text::millis(started.elapsed().as_millis() as u64);
            Check::new("service", format!("{name}{listed} listed, in {took}"), "tried")
        }
        Err(error) => {
            Check::new("service", format!("{name}no usable answer"), "tried").failed(&explain_keyless(error, ctx))
        }
    }
}
