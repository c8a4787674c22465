//! Money for one run out of the config file's budgets, drawn slice by slice: commands that run at the same time share
//! what is left, and together never pass it.

use std::time::{Duration, Instant};

use super::budget;
use super::exposure::Own;
use crate::context::Ctx;
use crate::error::Result;
use crate::price::Nanos;
use crate::realtime::Need;
use crate::store::{Ledger, Standing, Store};

/// This share of what is left is drawn at a time: little lies idle with one while another stops for want of it.
const SLICE: i128 = 16;
/// At least so many requests' worth is drawn, if there is as much.
const FEWEST: i128 = 8;

/// How often a run that waits for what others may give back looks again.
const AGAIN: Duration = Duration::from_millis(250);

/// What one run has drawn. Dropped without [`Purse::close`], its rest is freed by the end of the process.
#[derive(Debug)]
pub struct Purse<'a> {
    ctx: &'a Ctx,
    store: Store,
    ledger: Ledger,
    job: String,
    reserve: Option<i64>,
    standing: Standing,
    drawn: Nanos,
    told: Nanos,
    /// What others may make possible, and when it was last looked at.
    waiting: Option<(Need, Instant)>,
    said: bool,
}

/// What came of a wish to draw.
enum Drawn {
    /// So much is drawn in all.
    Enough(Nanos),
    /// Not now, but others may give back what is needed of this budget.
    Later(String),
    /// No; which budget has no more.
    Never(String),
}

impl<'a> Purse<'a> {
    /// For a run of this job, which is taken and has asked [`budget::left`] before; `None` if the config file has no budget.
    pub fn open(job: &str, store: &Store, ctx: &'a Ctx) -> Result<Option<Self>> {
        if !ctx.settings.budget.is_set() {
            return Ok(None);
        }
        Ok(Some(Self {
            ctx,
            store: store.clone(),
            ledger: store.ledger()?,
            job: job.to_owned(),
            reserve: None,
            standing: Standing::Held,
            drawn: Nanos::ZERO,
            told: Nanos::ZERO,
            waiting: None,
            said: false,
        }))
    }

    /// Draws what is needed now, or what could not be drawn before. What was drawn in all, or which budget has no more;
    /// `None`: nothing is needed, or it must wait for others. Ask again and again.
    pub fn serve(&mut self, need: Option<Need>) -> Result<Option<std::result::Result<Nanos, String>>> {
        let due = |(need, at): (Need, Instant)| (at.elapsed() >= AGAIN).then_some(need);
        let Some(need) = need.or_else(|| self.waiting.and_then(due)) else { return Ok(None) };
        self.waiting = None;
        Ok(match self.draw(need)? {
            Drawn::Enough(drawn) => Some(Ok(drawn)),
            Drawn::Never(what) => Some(Err(what)),
            Drawn::Later(what) => {
                if !self.said {
                    let text = format!("other commands hold what is left of {what}; waiting for what they give back");
                    self.ctx.ui.note(&text);
                }
                self.said = true;
                self.waiting = Some((need, Instant::now()));
                None
            }
        })
    }

    fn draw(&mut self, Need { least, idle }: Need) -> Result<Drawn> {
        // What the engine has given up nobody uses here.
        let drawn = idle.unwrap_or(self.drawn);
        let rest = drawn - self.told;
        let (reserve, mut standing) = (self.reserve, Standing::Held);
        let (id, came) = self.ledger.decide(|| {
            let keep = |rest, standing| reserve.map_or(Ok(()), |id| self.ledger.set_reserve(id, rest, standing));
            keep(rest, standing)?;
            let own = Own { job: &self.job, reserve, again: true };
            let Some(left) = budget::left(&self.store, &self.ledger, self.ctx, own)? else {
                return Ok((reserve, Drawn::Enough(drawn)));
            };
            if least > left.amount {
                if idle.is_none() || least > left.amount + left.returning {
                    return Ok((reserve, Drawn::Never(left.what)));
                }
                // Two that wait for each other would wait for ever.
                standing = Standing::Waiting;
                keep(rest, standing)?;
                return Ok((reserve, Drawn::Later(left.what)));
            }
            // Not too little either: each draw looks at every job.
            let enough = Nanos((least.0 * FEWEST).min(left.amount.0));
            let more = enough.max(Nanos(left.amount.0 / SLICE));
            let id = if let Some(id) = reserve {
                keep(rest + more, standing)?;
                id
            } else {
                let day = jiff::Zoned::now().date().to_string();
                self.ledger.reserve((&self.job, self.ctx.settings.sandbox), &day, rest + more, standing)?
            };
            Ok((Some(id), Drawn::Enough(drawn + more)))
        })?;
        (self.reserve, self.standing) = (id, standing);
        self.drawn = if let Drawn::Enough(all) = came { all } else { drawn };
        Ok(came)
    }

    /// So much of it was spent, and stands in the index of jobs now.
    pub fn told(&mut self, spent: Nanos) -> Result<()> {
        let Some(id) = self.reserve.filter(|_| spent != self.told) else { return Ok(()) };
        self.told = spent;
        self.ledger.set_reserve(id, self.drawn - spent, self.standing)
    }

    /// The run is over, and what it paid is written down; so much more may have been billed.
    pub fn close(self, at_risk: Nanos) -> Result<()> {
        self.reserve.map_or(Ok(()), |id| self.ledger.set_reserve(id, at_risk, Standing::AtRisk))
    }
}
