//! A look at the first record with the flags in hand: finds templates and texts that cannot mean what they say.

use std::path::Path;

use super::builder::{RequestBuilder, System};
use super::params::Endpoint;
use super::problem::{listed, shorten};
use super::record::{Data, Record};
use super::template::{ROW, TEMPLATE_FAULT, Template, foreign, spelled};
use crate::error::{Error, Result};
use crate::json;

/// The parameter that names the speaker.
const VOICE: &str = "voice";

impl RequestBuilder {
    /// Compares the flags with the first record. `many`: the input has more rows. Returns warnings.
    ///
    /// # Errors
    /// 2 for a template that is wrong for every row: it names no field, misspells one, or uses an unknown filter.
    pub fn look_at(&self, record: &Record<'_>, many: bool) -> Result<Vec<String>> {
        let fields = record.fields();
        let names: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
        let system = match &self.system {
            Some(System::Template(template)) => Some(&**template),
            _ => None,
        };
        let members = match record.data {
            Data::Json(text) => json::members(text).unwrap_or_default(),
            Data::Row(text) => json::trusted_members(text),
            Data::Line(_) | Data::Columns { .. } => Vec::new(),
        };
        for template in self.prompt.iter().chain(system) {
            template.check_names(&names)?;
        }
        if let Some(prompt) = &self.prompt {
            let varies = self.constant_prompt
                || self.asks_for("system")
                || system.is_some_and(|system| system.names_field(&names));
            if many && !varies && !prompt.names_field(&names) {
                return Err(constant(prompt, &names));
            }
        }
        for template in self.prompt.iter().chain(system) {
            if let Err(problem) = template.render(record, &members)
                && problem.code == TEMPLATE_FAULT
            {
                return Err(Error { hint: problem.hint, ..Error::usage(problem.message) });
            }
        }
        let texts = self.texts().filter_map(|(flag, text)| unfilled(flag, text, &names));
        Ok(texts.chain(self.missing_voice(record, &names)).collect())
    }

    /// The warning for speech without a `voice`, which most services refuse with words of their own.
    fn missing_voice(&self, record: &Record<'_>, fields: &[&str]) -> Option<String> {
        if self.endpoint != Endpoint::Speech {
            return None;
        }
        let request = self.request(record).ok()?;
        if json::members(&request.body).ok()?.iter().any(|member| member.key == VOICE) {
            return None;
        }
        let remedy = if fields.contains(&VOICE) {
            "--row-params=voice uses the rows' field `voice`"
        } else {
            "pass --set 'voice=\"NAME\"', or give rows a field `voice`"
        };
        Some(format!("the first row names no `voice`, which most services require: {remedy}"))
    }

    /// Returns true if requests use the column of a table with this name.
    pub fn uses_column(&self, name: &str) -> bool {
        let template = |template: &Template| {
            template.uses(name) || (template.uses(ROW) && template.source().contains(&format!("{name:?}")))
        };
        let system = match &self.system {
            Some(System::Template(system)) => template(system),
            _ => false,
        };
        self.prompt.as_ref().is_some_and(template) || system || self.reads_column(name)
    }

    /// The texts of flags, with the flag of each.
    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let prompt = self.prompt.as_ref().map(|template| ("--prompt", template.source()));
        let system = self.system.as_ref().map(|system| match system {
            System::Fixed(text) => ("--system", text.as_str()),
            System::Template(template) => ("--system", template.source()),
        });
        let set = self.set.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        prompt.into_iter().chain(system).chain(set)
    }
}

/// The error for a prompt that is the same for all rows.
fn constant(prompt: &Template, fields: &[&str]) -> Error {
    let source = prompt.source();
    let field = foreign(source, fields).map(|(_, field)| field);
    let field = field.or_else(|| fields.iter().copied().find(|name| !matches!(*name, "id" | "custom_id")));
    let write = field.map_or_else(String::new, |field| format!("write a field as {{{{ {} }}}}; ", spelled(field)));
    let file = source.trim().trim_start_matches('@');
    let write =
        if Path::new(file).is_file() { format!("--prompt @{file} reads the template from that file; ") } else { write };
    Error::usage(format!("--prompt names no field, so every row would send the same text: `{}`", shorten(source))).hint(
        format!(
            "{write}the first row has: {}; --constant-prompt sends the same text for every row",
            listed(fields.iter().copied())
        ),
    )
}

/// The warning for a placeholder of another language that names a field.
fn unfilled(flag: &str, text: &str, fields: &[&str]) -> Option<String> {
    let is_template = matches!(flag, "--prompt" | "--system");
    let jinja = |field: &&&str| {
        !is_template
            && [format!("{{{{ {field} }}}}"), format!("{{{{{field}}}}}")].iter().any(|form| text.contains(form))
    };
    if let Some(field) = fields.iter().find(jinja) {
        return Some(format!(
            "--set {flag}: `{{{{ {field} }}}}` is sent as it stands: only --prompt and --system are templates"
        ));
    }
    let (form, field) = foreign(text, fields)?;
    Some(if is_template {
        format!("{flag}: `{form}` is sent as it stands; write {{{{ {} }}}} for the field", spelled(field))
    } else {
        format!("--set {flag}: `{form}` is sent as it stands: only --prompt and --system are templates")
    })
}
