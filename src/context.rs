//! What every command is given: built once, passed down.

use crate::error::Exit;
use crate::settings::{Origin, Settings};
use crate::ui::Ui;

/// The surroundings of a command.
#[derive(Debug)]
pub struct Ctx {
    /// Flags, environment and config file put together.
    pub settings: Settings,
    /// The way to talk.
    pub ui: Ui,
    /// `--json`: one document on stdout instead of text.
    pub json: bool,
    /// Ends the process at once; for a second signal.
    pub leave: fn(Exit) -> !,
    /// The command line as typed, for "run this again".
    pub argv: Vec<String>,
}

impl Ctx {
    /// The command line as a shell would take it, without the flags in `without` and with `more` behind it.
    pub fn again(&self, without: &[&str], more: &[String]) -> String {
        let kept = self.argv.iter().filter(|a| !without.iter().any(|w| *a == w || a.starts_with(&format!("{w}="))));
        let words: Vec<String> = kept.chain(more).map(|word| quote(word)).collect();
        format!("llbatch {}", words.join(" "))
    }

    /// What a command for a person to type must say to find a job of `service` again: the flags that were typed here.
    pub fn flags(&self, service: &str) -> String {
        let settings = &self.settings;
        let bare = |url: &str| url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let typed = |origin: &Origin| matches!(origin, Origin::Flag(_));
        let mut flags = String::new();
        if service == "sandbox" {
            flags.push_str(" --sandbox");
        } else if typed(&settings.base_url.origin) || bare(&settings.base_url.value) != bare(service) {
            flags.extend([" --base-url ", &quote(service)]);
        }
        for (name, path) in [(" --state-dir ", &settings.state_dir), (" --config ", &settings.config_path)] {
            if typed(&path.origin) {
                flags.extend([name, &quote(&path.value.to_string_lossy())]);
            }
        }
        flags
    }
}

/// Quotes a word for a shell, if it needs it.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_survive_a_shell() {
        for (word, quoted) in
            [("a.jsonl", "a.jsonl"), ("", "''"), ("it's", r"'it'\''s'"), ("{{ text }}", "'{{ text }}'"), ("$x", "'$x'")]
        {
            assert_eq!(super::quote(word), quoted);
        }
    }
}
