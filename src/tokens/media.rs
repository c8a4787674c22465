//! Parts of a message that are not text. Their bytes are no prompt tokens.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::{Member, find, string, trusted_elements as elements, trusted_members as members};

/// Most prompt tokens of an image: four tiles of 1,601 tokens each (docs.together.ai, vision).
const MOST_IMAGE: u64 = 6_404;
/// Prompt tokens of an image of one tile.
const USUAL_IMAGE: u64 = 1_601;

/// Members that hold an image or its address.
const IMAGES: [&str; 3] = ["image_url", "image", "source"];

/// The parts of a request that are not text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Media {
    /// Number of images.
    pub images: u64,
    /// Bytes of all these parts in the body.
    pub bytes: u64,
    /// The type of a part whose tokens have no known bound: a sound, a file, a video.
    pub unbounded: Option<String>,
}

impl Media {
    /// Finds the parts of `body`.
    pub fn of(body: &str) -> Self {
        let mut media = Self::default();
        if !has_parts(body) {
            return media;
        }
        let all = members(body);
        let Some(messages) = find(&all, "messages").filter(|messages| messages.value.starts_with('[')) else {
            return media;
        };
        for message in elements(messages.value).into_iter().filter(|message| message.starts_with('{')) {
            let all = members(message);
            if let Some(content) = find(&all, "content").filter(|content| content.value.starts_with('[')) {
                for part in elements(content.value).into_iter().filter(|part| part.starts_with('{')) {
                    media.add(&members(part));
                }
            }
        }
        media
    }

    /// The most tokens of its images, at the user's own figure for one if there is one.
    pub fn most_tokens(&self, image: Option<u64>) -> u64 {
        self.images.saturating_mul(image.unwrap_or(MOST_IMAGE))
    }

    /// The usual tokens of its images.
    pub fn usual_tokens(&self, image: Option<u64>) -> u64 {
        self.images.saturating_mul(image.unwrap_or(USUAL_IMAGE))
    }

    fn add(&mut self, part: &[Member<'_>]) {
        let kind = find(part, "type").and_then(|kind| string(kind.value)).unwrap_or_default();
        let image = IMAGES.iter().find_map(|name| find(part, name));
        match &*kind {
            "text" | "input_text" | "output_text" | "refusal" if image.is_none() => {}
            "" if image.is_none() && find(part, "text").is_some() => {}
            "" | "text" | "image_url" | "input_image" | "image" => {
                self.images += 1;
                self.bytes += image.map_or(0, |image| image.value.len() as u64);
            }
            other => self.unbounded = Some(other.to_owned()),
        }
    }
}

/// Returns whether a `content` may be a list. Most are texts, and need no closer look.
fn has_parts(body: &str) -> bool {
    static NAMED: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| ["content\"", "\\u00"].map(Finder::new));
    let [content, escape] = &*NAMED;
    let is_list = |at: usize| {
        let rest = body[at + "content\"".len()..].trim_start();
        rest.strip_prefix(':').is_some_and(|value| value.trim_start().starts_with('['))
    };
    content.find_iter(body.as_bytes()).any(is_list) || escape.find(body.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &str) -> Media {
        Media::of(&format!(r#"{{"model":"m","messages":[{{"role":"user","content" : [{parts}]}}]}}"#))
    }

    #[test]
    fn images_are_told_from_text_and_from_what_has_no_bound() {
        let image = r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}"#;
        let bytes = r#"{"url":"data:image/png;base64,AAAA"}"#.len() as u64;
        let text = r#"{"type":"text","text":"an \"image_url\""}"#;
        assert_eq!(of(text), Media::default());
        assert_eq!(of(&format!("{text},{image},{image}")), Media { images: 2, bytes: 2 * bytes, unbounded: None });
        assert_eq!(of(&image.replace("image_url", "im\\u0061ge_url")).images, 1);
        assert_eq!(of(r#"{"type":"input_image","image_url":"https://x"}"#).images, 1);
        assert_eq!(of(r#"{"image_url":"https://x"}"#).images, 1);
        for kind in ["input_audio", "video_url", "file", "document"] {
            assert_eq!(of(&format!(r#"{{"type":"{kind}"}}"#)).unbounded.as_deref(), Some(kind));
        }
        assert_eq!(Media::of(r#"{"messages":[{"role":"user","content":"image_url"}]}"#), Media::default());
    }

    #[test]
    fn bytes_of_an_image_are_no_tokens() {
        let body = |url: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
            )
        };
        let [short, long] = ["https://x/y.png".to_owned(), format!("data:image/png;base64,{}", "A".repeat(1 << 20))];
        let [short, long] = [short, long].map(|url| super::super::bound(&body(&url), &Media::of(&body(&url)), None));
        assert_eq!(short, long);
        assert!((MOST_IMAGE..MOST_IMAGE + 100).contains(&short), "{short}");
    }

    #[test]
    fn users_figure_for_an_image_goes_before_the_built_in_ones() {
        let media = Media { images: 3, ..Media::default() };
        assert_eq!((media.usual_tokens(None), media.most_tokens(None)), (3 * USUAL_IMAGE, 3 * MOST_IMAGE));
        assert_eq!((media.usual_tokens(Some(85)), media.most_tokens(Some(85))), (255, 255));
        assert_eq!(media.most_tokens(Some(u64::MAX)), u64::MAX);
    }
}
