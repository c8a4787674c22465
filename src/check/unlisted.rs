//! Warnings about model names that no list has: built in, in the config file, or the service's own.

use crate::context::Ctx;

/// Models that are named in full; more are only counted.
const SHOWN: usize = 5;

/// Writes a sentence for each of `models` that no list has. A service whose models llbatch does not know gives none.
pub fn unlisted<'a>(models: impl IntoIterator<Item = &'a str>, ctx: &Ctx) -> Vec<String> {
    let settings = &ctx.settings;
    if !settings.lists_models {
        return Vec::new();
    }
    let unknown: Vec<&str> = models.into_iter().filter(|model| settings.prices.get(model).is_none()).collect();
    let mut sentences: Vec<String> = unknown.iter().take(SHOWN).map(|model| sentence(model, ctx)).collect();
    if unknown.len() > SHOWN {
        let more = crate::text::plural((unknown.len() - SHOWN) as u64, "more model");
        sentences.push(format!("and {more} that no list has"));
    }
    sentences
}

/// Shows these sentences as warnings.
pub(super) fn say_unlisted<'a>(models: impl IntoIterator<Item = &'a str>, ctx: &Ctx) {
    for sentence in unlisted(models, ctx) {
        ctx.ui.warn(&sentence);
    }
}

fn sentence(model: &str, ctx: &Ctx) -> String {
    let near = ctx.settings.prices.near(model);
    let what = if near.is_empty() {
        "`llbatch models` lists the known names, `llbatch models --refresh` asks the service".to_owned()
    } else {
        format!("near names: {}", near.join(", "))
    };
    format!("no list of models has {model:?}, so the service may refuse its rows; {what}")
}
