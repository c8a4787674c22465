//! Notes about rows' own parameters and about flags, once requests of rows were made.

use super::builder::RequestBuilder;
use super::problem::listed;

impl RequestBuilder {
    /// The parameters that rows gave themselves, except the model; empty where templates or bodies made the requests.
    pub fn own_parameters(&self) -> Vec<&'static str> {
        self.usage.own.names().into_iter().filter(|name| *name != "model").collect()
    }

    /// Tells what rows or flags say and no request uses, after all rows were drafted. `models`: those of the rows.
    /// `usual_model`: the config file's, which is there for all inputs.
    pub fn unused(&self, models: &[&str], usual_model: Option<&str>) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(model) = self.overridden.as_deref().filter(|model| Some(*model) != usual_model) {
            let by = self.model.as_deref().unwrap_or_default();
            notes.push(format!("-m {model} is not used: --override model={by} replaces it"));
        }
        let ignored = self.usage.ignored.names();
        if let Some(first) = ignored.first() {
            let names = listed(ignored.iter().copied());
            let why =
                if self.prompt.is_some() { "with --prompt they are data" } else { "a table may mean something else" };
            let flag = if ignored.len() == 1 { (*first).to_owned() } else { ignored.join(",") };
            notes.push(format!(
                "fields of the rows that are not used as parameters: {names} ({why}); --row-params={flag} uses them"
            ));
        }
        if !self.usage.any.is_noted() {
            return notes;
        }
        for default in self.defaults.iter().filter(|default| !default.forced && !default.used.is_noted()) {
            let (flag, name) = (&default.flag, &default.names[0]);
            if name == "model" && self.model.as_deref() == usual_model {
                continue;
            }
            notes.push(if name == "model" {
                let (model, said) = (self.model.as_deref().unwrap_or_default(), listed(models.iter().copied()));
                format!("{flag} is not used: every row names a model ({said}); --override model={model} replaces it")
            } else {
                format!("{flag} is not used: every row sets `{name}` itself; --override {name}=… replaces it")
            });
        }
        if self.system.is_some() && !self.usage.system_flag.is_noted() {
            notes.push("--system is not used: every row has a system message of its own".to_owned());
        }
        notes
    }
}
