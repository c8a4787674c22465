//! Answers that are files: images and speech. Their bytes depend on the request alone.

use std::io::Write as _;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::answers::{AnswerTokens, GeneratedAnswer, ServedBody};
use super::bodies::pretty;
use super::call::{ApiRoute, Call};
use super::dice::Dice;
use super::faults::Scope;
use super::json::{ObjectMembers, string};
use super::reply::HttpReply;
use super::request::{InferenceKind, InferenceRequest, InvalidBody};
use super::storage;

/// The most images of a request, as the service documents it.
const MOST_IMAGES: u64 = 4;
/// Samples of speech a second.
const SAMPLE_RATE: u32 = 24_000;
/// Samples for each character of a text.
const SAMPLES_PER_CHARACTER: usize = 40;
/// Bytes of a frame of MP3 at 128 kbit/s and 44.1 kHz.
const MP3_FRAME: usize = 417;

/// A grey picture of 8 by 8 pixels as JPEG, without the marker that begins it.
const JPEG: [u8; 157] = [
    0xff, 0xe0, 0x00, 0x10, 0x4a, 0x46, 0x49, 0x46, 0x00, 0x01, 0x01, 0x00, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0xff,
    0xdb, 0x00, 0x43, 0x00, 0x50, 0x37, 0x3c, 0x46, 0x3c, 0x32, 0x50, 0x46, 0x41, 0x46, 0x5a, 0x55, 0x50, 0x5f, 0x78,
    0xc8, 0x82, 0x78, 0x6e, 0x6e, 0x78, 0xf5, 0xaf, 0xb9, 0x91, 0xc8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc0, 0x00, 0x0b, 0x08, 0x00, 0x08, 0x00,
    0x08, 0x01, 0x01, 0x11, 0x00, 0xff, 0xc4, 0x00, 0x14, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xc4, 0x00, 0x14, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xda, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00,
    0x3f, 0x00, 0x3f, 0xff, 0xd9,
];
/// The length of its first part. A comment may follow.
const JPEG_START: usize = 18;

/// The form of the files that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MediaForm {
    /// Images come inside of the JSON, not as URLs.
    is_inline: bool,
    /// Images are PNG, not JPEG.
    is_png: bool,
    sound: SoundForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum SoundForm {
    #[default]
    Wav,
    Mp3,
    Raw,
}

#[derive(Serialize)]
struct ImagesBody<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    data: Vec<ImageItem>,
}

#[derive(Serialize)]
struct ImageItem {
    index: u64,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

/// Reads a request for images or speech.
pub fn read<'a>(
    members: &ObjectMembers<'a>,
    kind: InferenceKind,
    request: &mut InferenceRequest<'a>,
) -> Result<(), InvalidBody> {
    let text = |name: &'static str| members.get(name).filter(|raw| *raw != "null").and_then(string);
    let name = if kind == InferenceKind::Images { "prompt" } else { "input" };
    let asked = text(name).filter(|text| !text.is_empty());
    request.prompt = asked.ok_or_else(|| InvalidBody::of(name, &format!("{name} must be a non-empty string")))?;
    let format = text("response_format");
    let bad = |allowed: &str| InvalidBody::of("response_format", &format!("response_format must be {allowed}"));
    if kind == InferenceKind::Speech {
        text("voice").ok_or_else(|| InvalidBody::of("voice", "voice must be a string"))?;
        request.options.media.sound = match format.as_deref() {
            None | Some("wav") => SoundForm::Wav,
            Some("mp3") => SoundForm::Mp3,
            Some("raw" | "pcm") => SoundForm::Raw,
            _ => return Err(bad("mp3, wav or raw")),
        };
        return Ok(());
    }
    if request.n > MOST_IMAGES {
        return Err(InvalidBody::of("n", &format!("n must not be above {MOST_IMAGES}")));
    }
    request.options.media.is_inline = match format.as_deref() {
        None | Some("url") => false,
        Some("base64" | "b64_json") => true,
        _ => return Err(bad("base64 or url")),
    };
    request.options.media.is_png = text("output_format").as_deref() == Some("png");
    Ok(())
}

/// The answer to a request for images.
pub fn images(request: &InferenceRequest<'_>) -> GeneratedAnswer {
    let (hash, form) = (request.hash(), request.options.media);
    let item = |index| {
        let name = ImageName { hash, index, is_png: form.is_png };
        let (b64_json, url) = if form.is_inline {
            (Some(STANDARD.encode(name.bytes())), None)
        } else {
            (None, Some(format!("{}/images/{}", request.storage, name.spelled())))
        };
        ImageItem { index, r#type: if form.is_inline { "b64_json" } else { "url" }, b64_json, url }
    };
    let body = pretty(&ImagesBody {
        id: format!("s{hash:016x}-sandbox"),
        object: "list",
        model: &request.model,
        data: (0..request.n).map(item).collect(),
    });
    GeneratedAnswer { body: ServedBody::Whole(body), tokens: AnswerTokens::default() }
}

/// The answer to a request for speech.
pub fn speech(request: &InferenceRequest<'_>) -> GeneratedAnswer {
    let (hash, characters) = (request.hash(), request.prompt.chars().count());
    let (media_type, bytes) = match request.options.media.sound {
        SoundForm::Wav => ("audio/wav", wav(hash, characters)),
        SoundForm::Mp3 => ("audio/mpeg", mp3(hash, characters)),
        SoundForm::Raw => ("audio/pcm", samples(hash, characters)),
    };
    GeneratedAnswer { body: ServedBody::File { media_type, bytes }, tokens: AnswerTokens::default() }
}

/// `GET /images/{name}`: an image that an answer names.
pub async fn get(Path(name): Path<String>, call: Call) -> Response {
    let work = async {
        if call.headers.contains_key(axum::http::header::AUTHORIZATION) {
            return storage::refusal(StatusCode::BAD_REQUEST, "InvalidArgument", "Send no Authorization header");
        }
        match ImageName::parse(&name) {
            Some(image) => HttpReply::new(StatusCode::OK, image.media_type(), image.bytes()),
            None => storage::refusal(StatusCode::NOT_FOUND, "NoSuchKey", "There is no such image"),
        }
    };
    call.serve(ApiRoute::new("/images/{name}", Scope::Content), &name, work).await
}

/// The name of an image at a URL, which decides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ImageName {
    hash: u64,
    index: u64,
    is_png: bool,
}

impl ImageName {
    fn spelled(self) -> String {
        format!("{:016x}-{}.{}", self.hash, self.index, if self.is_png { "png" } else { "jpg" })
    }

    fn parse(name: &str) -> Option<Self> {
        let (stem, ending) = name.split_once('.')?;
        let (hash, index) = stem.split_once('-')?;
        let is_png = match ending {
            "png" => true,
            "jpg" => false,
            _ => return None,
        };
        Some(Self { hash: u64::from_str_radix(hash, 16).ok()?, index: index.parse().ok()?, is_png })
    }

    const fn media_type(self) -> &'static str {
        if self.is_png { "image/png" } else { "image/jpeg" }
    }

    fn bytes(self) -> Vec<u8> {
        if self.is_png { png(self.hash.wrapping_add(self.index)) } else { self.jpeg() }
    }

    /// A picture with its name in a comment.
    fn jpeg(self) -> Vec<u8> {
        let comment = format!("[{:016x}] {}", self.hash, self.index);
        let mut bytes = vec![0xff, 0xd8];
        bytes.extend_from_slice(&JPEG[..JPEG_START]);
        bytes.extend_from_slice(&[0xff, 0xfe, 0]);
        bytes.push(comment.len() as u8 + 2);
        bytes.extend_from_slice(comment.as_bytes());
        bytes.extend_from_slice(&JPEG[JPEG_START..]);
        bytes
    }
}

/// A picture of 16 by 16 pixels by chance.
fn png(seed: u64) -> Vec<u8> {
    const SIDE: u32 = 16;
    let mut dice = Dice(seed);
    let mut rows = Vec::new();
    for _ in 0..SIDE {
        // No filter.
        rows.push(0);
        rows.extend((0..SIDE * 3).map(|_| dice.roll() as u8));
    }
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to a Vec cannot fail.
    let _ = packer.write_all(&rows);
    let packed = packer.finish().unwrap_or_default();
    let mut head = [SIDE.to_be_bytes(), SIDE.to_be_bytes()].concat();
    head.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", &head[..]), (b"IDAT", &packed[..]), (b"IEND", &[][..])] {
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
        let start = bytes.len();
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(data);
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[start..]);
        bytes.extend_from_slice(&crc.sum().to_be_bytes());
    }
    bytes
}

/// Samples of 16 bits, quiet and by chance.
fn samples(seed: u64, characters: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    let sample = |_| ((dice.roll() % 2048) as i16 - 1024).to_le_bytes();
    (0..characters * SAMPLES_PER_CHARACTER).flat_map(sample).collect()
}

fn wav(seed: u64, characters: usize) -> Vec<u8> {
    let data = samples(seed, characters);
    let length = data.len() as u32;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend_from_slice(&(length + 36).to_le_bytes());
    bytes.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
    bytes.extend_from_slice(&(SAMPLE_RATE * 2).to_le_bytes());
    bytes.extend_from_slice(b"\x02\0\x10\0data");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&data);
    bytes
}

/// Silent frames behind a title that holds the seed.
fn mp3(seed: u64, characters: usize) -> Vec<u8> {
    let title = format!("\0[{seed:016x}]");
    let mut bytes = b"ID3\x03\0\0\0\0\0".to_vec();
    bytes.push(title.len() as u8 + 10);
    bytes.extend_from_slice(b"TIT2\0\0\0");
    bytes.push(title.len() as u8);
    bytes.extend_from_slice(b"\0\0");
    bytes.extend_from_slice(title.as_bytes());
    for _ in 0..=characters / 20 {
        bytes.extend_from_slice(&[0xff, 0xfb, 0x90, 0x00]);
        bytes.resize(bytes.len() + MP3_FRAME - 4, 0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;

    fn image_items(extra: &str) -> Vec<serde_json::Value> {
        let body = format!(r#"{{"model":"a/b","prompt":"a cat"{extra}}}"#);
        let mut request = parse(&body, InferenceKind::Images).unwrap();
        request.storage = "http://127.0.0.1:9";
        let ServedBody::Whole(body) = images(&request).body else { panic!("a file") };
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        body["data"].as_array().unwrap().clone()
    }

    #[test]
    fn images_come_inline_or_at_urls_and_are_the_same() {
        let urls = image_items(r#","n":2,"output_format":"png""#);
        let inline = image_items(r#","n":2,"output_format":"png","response_format":"base64""#);
        assert_ne!(inline[0]["b64_json"], inline[1]["b64_json"]);
        for (url, inline) in urls.iter().zip(&inline) {
            let name = url["url"].as_str().unwrap().strip_prefix("http://127.0.0.1:9/images/").unwrap();
            let bytes = ImageName::parse(name).unwrap().bytes();
            assert!(bytes.starts_with(b"\x89PNG"));
            assert_eq!(STANDARD.decode(inline["b64_json"].as_str().unwrap()).unwrap(), bytes);
        }
        let jpeg = ImageName { hash: 7, index: 1, is_png: false };
        assert!(jpeg.bytes().starts_with(b"\xff\xd8\xff\xe0") && jpeg.bytes().ends_with(b"\xff\xd9"));
        assert_eq!(ImageName::parse(&jpeg.spelled()), Some(jpeg));
        assert_eq!(ImageName::parse("../x.png"), None);
    }

    #[test]
    fn speech_has_the_form_that_is_asked_for() {
        for (format, start) in [("", &b"RIFF"[..]), (r#","response_format":"mp3""#, b"ID3")] {
            let body = format!(r#"{{"model":"a/b","input":"hello","voice":"v"{format}}}"#);
            let answer = speech(&parse(&body, InferenceKind::Speech).unwrap());
            let ServedBody::File { bytes, .. } = answer.body else { panic!("a text") };
            assert!(bytes.starts_with(start));
        }
        for (body, param) in [
            (r#"{"model":"a/b","input":"x"}"#, "voice"),
            (r#"{"model":"a/b","voice":"x"}"#, "input"),
            (r#"{"model":"a/b","input":"x","voice":"v","response_format":"ogg"}"#, "response_format"),
        ] {
            assert_eq!(parse(body, InferenceKind::Speech).unwrap_err().param, Some(param), "{body}");
        }
        assert_eq!(parse(r#"{"model":"a/b","prompt":"x","n":5}"#, InferenceKind::Images).unwrap_err().param, Some("n"));
    }
}
