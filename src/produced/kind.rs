//! The type of a file: by its first bytes, else by the `Content-Type` that it came with.

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind {
    /// The ending of its name.
    pub ending: &'static str,
    /// Its media type.
    pub media_type: &'static str,
}

const fn kind(ending: &'static str, media_type: &'static str) -> FileKind {
    FileKind { ending, media_type }
}

const MP3: FileKind = kind("mp3", "audio/mpeg");
const AAC: FileKind = kind("aac", "audio/aac");
const OGG: FileKind = kind("ogg", "audio/ogg");

/// Types without first bytes of their own, by the beginning of their media type.
const UNMARKED: [(&str, FileKind); 6] = [
    ("audio/pcm", kind("pcm", "audio/pcm")),
    ("audio/x-pcm", kind("pcm", "audio/pcm")),
    ("audio/l16", kind("pcm", "audio/pcm")),
    ("audio/raw", kind("pcm", "audio/pcm")),
    ("audio/basic", kind("pcm", "audio/basic")),
    ("image/svg", kind("svg", "image/svg+xml")),
];

impl FileKind {
    /// The type of a file with these bytes. `said`: the `Content-Type` that it came with. A file of no known type is `bin`.
    pub fn of(bytes: &[u8], said: Option<&str>) -> Self {
        if let Some(known) = marked(bytes) {
            return known;
        }
        let said = said.unwrap_or_default().trim().to_ascii_lowercase();
        let unmarked = UNMARKED.iter().find(|(media_type, _)| said.starts_with(media_type));
        unmarked.map_or(kind("bin", "application/octet-stream"), |(_, kind)| *kind)
    }
}

/// The type that the first bytes name.
fn marked(bytes: &[u8]) -> Option<FileKind> {
    let at = |place: usize, mark: &[u8]| bytes.get(place..).is_some_and(|rest| rest.starts_with(mark));
    Some(match bytes {
        _ if at(0, b"\x89PNG\r\n\x1a\n") => kind("png", "image/png"),
        _ if at(0, b"\xff\xd8\xff") => kind("jpg", "image/jpeg"),
        _ if at(0, b"RIFF") && at(8, b"WEBP") => kind("webp", "image/webp"),
        _ if at(0, b"RIFF") && at(8, b"WAVE") => kind("wav", "audio/wav"),
        _ if at(0, b"GIF87a") || at(0, b"GIF89a") => kind("gif", "image/gif"),
        _ if at(4, b"ftypavif") => kind("avif", "image/avif"),
        _ if at(4, b"ftyp") => kind("m4a", "audio/mp4"),
        _ if at(0, b"OggS") && at(28, b"OpusHead") => kind("opus", "audio/ogg"),
        _ if at(0, b"OggS") => OGG,
        _ if at(0, b"fLaC") => kind("flac", "audio/flac"),
        _ if at(0, b"\x1a\x45\xdf\xa3") => kind("webm", "audio/webm"),
        _ if at(0, b"ID3") => MP3,
        // The frames of both begin with eleven or twelve set bits; the layer of AAC is 0.
        [0xff, second, ..] if second & 0xf6 == 0xf0 => AAC,
        [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x06 != 0 => MP3,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide_before_what_is_said() {
        let cases: [(&[u8], Option<&str>, &str); 15] = [
            (b"\x89PNG\r\n\x1a\n....", Some("image/jpeg"), "png"),
            (b"\xff\xd8\xff\xe0", None, "jpg"),
            (b"RIFF\0\0\0\0WEBPVP8 ", None, "webp"),
            (b"RIFF\0\0\0\0WAVEfmt ", Some("audio/mpeg"), "wav"),
            (b"GIF89a..", None, "gif"),
            (b"\0\0\0\x1cftypavif", None, "avif"),
            (b"ID3\x03", None, "mp3"),
            (b"\xff\xfb\x90", None, "mp3"),
            (b"\xff\xf1\x50", None, "aac"),
            (b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead", None, "opus"),
            (b"OggS....", None, "ogg"),
            (b"fLaC", None, "flac"),
            (b"\0\x01\0\x02", Some("audio/L16; rate=24000"), "pcm"),
            (b"\0\x01\0\x02", Some("text/plain"), "bin"),
            (b"", None, "bin"),
        ];
        for (bytes, said, ending) in cases {
            assert_eq!(FileKind::of(bytes, said).ending, ending, "{bytes:?}");
        }
    }
}
