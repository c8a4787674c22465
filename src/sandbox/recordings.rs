//! Speech to text: the forms that bring recordings, and their transcripts. A transcript depends on the bytes of its recording,
//! or on its URL.

use axum::body::Body;
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answers::{AnswerTokens, GeneratedAnswer, ServedBody, sentence};
use super::bodies::pretty;
use super::call::Call;
use super::dialect::ServedDialect;
use super::errors::{self, ApiError};
use super::json::{ObjectMembers, elements, string};
use super::reply::HttpReply;
use super::request::{InferenceRequest, InvalidBody};

/// The largest upload, as the service documents it.
const MAX_UPLOAD: usize = 80_000_000;
/// Room for the fields around it.
const MAX_FIELDS: usize = 1 << 20;
/// The longest recording in seconds: four hours.
const MAX_SECONDS: f64 = 14_400.0;
/// Bytes of a second in a format that is not read: 128 kbit/s.
const USUAL_RATE: f64 = 16_000.0;
/// Seconds of a segment.
const SEGMENT: f64 = 30.0;

/// Reads a form into the body that says the same, with the hash and the length of the recording in place of its bytes.
pub async fn body_of(call: &Call, body: Body) -> Result<Bytes, HttpReply> {
    let mut request = Request::new(body);
    *request.headers_mut() = call.headers.clone();
    DefaultBodyLimit::max(MAX_UPLOAD + MAX_FIELDS).apply(&mut request);
    let parts = Multipart::from_request(request, &()).await;
    let parts = parts.map_err(|why| errors::invalid(None, &why.body_text()))?;
    let members = read_parts(parts).await?;
    Ok(Value::Object(members).to_string().into())
}

async fn read_parts(mut parts: Multipart) -> Result<Map<String, Value>, HttpReply> {
    let mut members = Map::new();
    while let Some(part) = parts.next_field().await.map_err(|why| unread(&why))? {
        let name = part.name().unwrap_or_default().to_owned();
        let is_file = part.file_name().is_some();
        if name == "file" && !members.contains_key("model") {
            return Err(errors::invalid(Some("model"), "model must come before file"));
        }
        let bytes = part.bytes().await.map_err(|why| unread(&why))?;
        if is_file {
            if bytes.len() > MAX_UPLOAD {
                return Err(too_large());
            }
            let seconds = seconds(&bytes).map_err(|message| errors::invalid(Some("file"), message))?;
            if seconds > MAX_SECONDS {
                let error = ApiError::invalid("The recording is longer than 4 hours");
                return Err(ApiError { code: Some("audio_too_long"), ..error }.reply(StatusCode::BAD_REQUEST));
            }
            members.insert("seconds".to_owned(), json!(seconds));
            members.insert(name, Value::String(format!("blake3:{}", blake3::hash(&bytes).to_hex())));
            continue;
        }
        let text = Value::String(String::from_utf8_lossy(&bytes).into_owned());
        match name.strip_suffix("[]") {
            Some(name) => {
                let list = members.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut().into_iter().for_each(|list| list.push(text.clone()));
            }
            None => drop(members.insert(name, text)),
        }
    }
    Ok(members)
}

fn unread(why: &MultipartError) -> HttpReply {
    if why.status() == StatusCode::PAYLOAD_TOO_LARGE { too_large() } else { errors::invalid(None, &why.body_text()) }
}

fn too_large() -> HttpReply {
    let error = ApiError::invalid("The recording has more than 80 MB");
    ApiError { code: Some("request_too_large"), ..error }.reply(StatusCode::PAYLOAD_TOO_LARGE)
}

/// The length of a recording: of a WAV by its header, of others by their bytes. The error is the reason for a refusal.
fn seconds(bytes: &[u8]) -> Result<f64, &'static str> {
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE") {
        return wav_seconds(bytes).ok_or("The WAV file has no format or no samples");
    }
    let starts: [&[u8]; 6] = [b"ID3", b"fLaC", b"OggS", b"ADIF", b"\x1a\x45\xdf\xa3", b"RF64"];
    let is_frame = matches!(bytes, [0xff, second, ..] if second & 0xe0 == 0xe0);
    if starts.iter().any(|start| bytes.starts_with(start)) || is_frame || bytes.get(4..8) == Some(b"ftyp") {
        return Ok(bytes.len() as f64 / USUAL_RATE);
    }
    Err("file must be .wav, .mp3, .m4a, .webm, .flac, .ogg, .opus or .aac")
}

fn wav_seconds(bytes: &[u8]) -> Option<f64> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (mut at, mut rate) = (12, 0);
    loop {
        let length = number(at + 4)?;
        match bytes.get(at..at + 4)? {
            b"fmt " => rate = number(at + 16)?,
            b"data" if rate > 0 => {
                let there = (bytes.len() - at - 8).min(length as usize);
                return Some(there as f64 / f64::from(rate));
            }
            _ => {}
        }
        at = at.checked_add(8)?.checked_add(length as usize + (length as usize & 1))?;
    }
}

/// Reads the members of a request.
pub fn read<'a>(
    members: &ObjectMembers<'a>,
    body: &'a str,
    request: &mut InferenceRequest<'a>,
) -> Result<(), InvalidBody> {
    let file = members.last_of(&["file", "url"]).and_then(string);
    let file = file.filter(|file| !file.is_empty()).ok_or_else(|| InvalidBody::of("file", "file is missing"))?;
    if !["http://", "https://", "blake3:"].iter().any(|start| file.starts_with(start)) {
        return Err(InvalidBody::of("file", "file must be an upload or a URL"));
    }
    let format = members.get("response_format").filter(|raw| *raw != "null").and_then(string);
    if !matches!(format.as_deref(), None | Some("json" | "verbose_json")) {
        return Err(InvalidBody::of("response_format", "response_format must be json or verbose_json"));
    }
    request.prompt = match members.get("prompt").and_then(string).filter(|prompt| !prompt.is_empty()) {
        Some(prompt) => format!("{file}\n{prompt}").into(),
        None => file,
    };
    request.spelled = body;
    Ok(())
}

/// The transcript.
pub fn answer(request: &InferenceRequest<'_>, dialect: ServedDialect) -> GeneratedAnswer {
    let members = ObjectMembers::parse(request.spelled).ok();
    let raw = |name| members.as_ref().and_then(|members| members.get(name)).unwrap_or("null");
    let hash = request.hash();
    let text = sentence(hash, 0);
    // The length of a recording at a URL is made up.
    let duration = raw("seconds").parse().unwrap_or_else(|_| (hash % 600 + 1) as f64);
    let duration = (duration * 100.0).round() / 100.0;
    let mut body = json!({"text": text});
    if string(raw("response_format")).as_deref() == Some("verbose_json") {
        body["language"] = string(raw("language")).map_or_else(|| json!("en"), |language| json!(language));
        body["duration"] = json!(duration);
        body["segments"] = segments(&text, duration);
        if granularities(raw("timestamp_granularities")).iter().any(|asked| asked == "word") {
            body["words"] = words(&text, duration);
        }
        if matches!(raw("diarize"), "true" | "\"true\"") {
            body["speaker_segments"] = json!([{
                "id": 0, "speaker_id": "SPEAKER_00", "start": 0.0, "end": duration, "text": text,
                "words": words(&text, duration),
            }]);
        }
    }
    if dialect == ServedDialect::Openai {
        body["usage"] = json!({"type": "duration", "seconds": duration.ceil() as u64});
    }
    GeneratedAnswer { body: ServedBody::Whole(pretty(&body)), tokens: AnswerTokens::default() }
}

fn granularities(raw: &str) -> Vec<String> {
    match string(raw) {
        Some(one) => vec![one.into_owned()],
        None => elements(raw).unwrap_or_default().into_iter().filter_map(string).map(Into::into).collect(),
    }
}

fn segments(text: &str, duration: f64) -> Value {
    let count = (duration / SEGMENT).ceil().clamp(1.0, 100.0) as u32;
    let length = duration / f64::from(count);
    let segment = |id| {
        let start = f64::from(id) * length;
        json!({"id": id, "start": start, "end": start + length, "text": text})
    };
    (0..count).map(segment).collect()
}

fn words(text: &str, duration: f64) -> Value {
    let words: Vec<&str> = text.split_whitespace().collect();
    let length = duration / words.len().max(1) as f64;
    let word = |(i, word): (usize, &&str)| {
        let start = i as f64 * length;
        json!({"word": word, "start": start, "end": start + length})
    };
    words.iter().enumerate().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::super::request::{InferenceKind, parse};
    use super::*;

    #[test]
    fn length_of_a_wav_is_in_its_header() {
        let wav = |data: usize, said: u32| {
            let mut bytes = b"RIFF\0\0\0\0WAVELIST\x02\0\0\0xyfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0".to_vec();
            bytes.extend_from_slice(&16_000_u32.to_le_bytes());
            bytes.extend_from_slice(b"\x02\0\x10\0data");
            bytes.extend_from_slice(&said.to_le_bytes());
            bytes.resize(bytes.len() + data, 0);
            bytes
        };
        assert_eq!(seconds(&wav(32_000, 32_000)), Ok(2.0));
        assert_eq!(seconds(&wav(8_000, u32::MAX)), Ok(0.5), "a header that was written before the samples");
        assert!(seconds(b"RIFF\0\0\0\0WAVE").is_err());
        assert_eq!(seconds(&[b"ID3".to_vec(), vec![0; 15_997]].concat()), Ok(1.0));
        assert!(seconds(b"hello").is_err());
    }

    #[test]
    fn details_come_when_they_are_asked_for() {
        let transcript = |more: &str| {
            let body = format!(r#"{{"model":"a/b","file":"https://x/a.mp3"{more}}}"#);
            let answer = answer(&parse(&body, InferenceKind::Audio).unwrap(), ServedDialect::Together);
            let ServedBody::Whole(body) = answer.body else { panic!("a file") };
            serde_json::from_str::<Value>(&body).unwrap()
        };
        assert_eq!(transcript("").as_object().unwrap().len(), 1);
        let all = transcript(
            r#","response_format":"verbose_json","timestamp_granularities":["word"],"diarize":true,"seconds":61"#,
        );
        assert_eq!((all["duration"].as_f64(), all["segments"].as_array().unwrap().len()), (Some(61.0), 3));
        assert!(all["words"].is_array() && all["speaker_segments"].is_array(), "{all}");
        for (more, param) in [(r#","response_format":"srt""#, "response_format"), (r#","file":"a.mp3""#, "file")] {
            let body = format!(r#"{{"model":"a/b","file":"https://x/a.mp3"{more}}}"#);
            assert_eq!(parse(&body, InferenceKind::Audio).unwrap_err().param, Some(param));
        }
    }
}
