//! The type of a file, by its first bytes.

/// Bytes that decide.
pub const HEAD: usize = 40;

/// The kind of files that a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachedKind {
    /// Pictures, inside of messages.
    Image,
    /// Recordings, uploaded beside a form.
    Recording,
}

impl AttachedKind {
    /// The type of the file that begins with `head`. `None`: services take no such file.
    pub fn type_of(self, head: &[u8]) -> Option<MediaType> {
        match self {
            Self::Image => MediaType::image(head),
            Self::Recording => MediaType::recording(head),
        }
    }

    /// The types, in a sentence that says that a file has none of them.
    pub(super) const fn none_of(self) -> &'static str {
        match self {
            Self::Image => "no PNG, JPEG, WebP or GIF image",
            Self::Recording => "no recording in WAV, MP3, M4A, FLAC, Ogg, Opus, WebM or AAC",
        }
    }
}

/// The type of a file that services take. Of recordings, those that Together's `file` of a transcription names (2026-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `image/png`
    Png,
    /// `image/jpeg`
    Jpeg,
    /// `image/webp`
    Webp,
    /// `image/gif`
    Gif,
    /// `audio/wav`
    Wav,
    /// `audio/mpeg`
    Mp3,
    /// `audio/mp4`
    M4a,
    /// `audio/flac`
    Flac,
    /// `audio/ogg`
    Ogg,
    /// `audio/ogg` with Opus
    Opus,
    /// `audio/webm`
    Webm,
    /// `audio/aac`
    Aac,
}

impl MediaType {
    /// The type of an image.
    fn image(head: &[u8]) -> Option<Self> {
        match head {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            _ => None,
        }
    }

    /// The type of a recording.
    fn recording(head: &[u8]) -> Option<Self> {
        match head {
            [b'R', b'I' | b'F', b'F' | b'6', b'F' | b'4', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some(Self::Wav),
            [b'f', b'L', b'a', b'C', ..] => Some(Self::Flac),
            [b'O', b'g', b'g', b'S', ..] if head.get(28..36) == Some(b"OpusHead") => Some(Self::Opus),
            [b'O', b'g', b'g', b'S', ..] => Some(Self::Ogg),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some(Self::M4a),
            [0x1a, 0x45, 0xdf, 0xa3, ..] => Some(Self::Webm),
            [b'I', b'D', b'3', ..] => Some(Self::Mp3),
            [b'A', b'D', b'I', b'F', ..] => Some(Self::Aac),
            // The layer of a frame is 0 in AAC only.
            [0xff, sync, ..] if sync & 0xf6 == 0xf0 => Some(Self::Aac),
            [0xff, sync, rate, ..] if sync & 0xe0 == 0xe0 && sync & 0x18 != 0x08 && rate & 0xf0 != 0xf0 => {
                (sync & 0x06 != 0).then_some(Self::Mp3)
            }
            _ => None,
        }
    }

    /// Its name in a data URI or a form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
            Self::Wav => "audio/wav",
            Self::Mp3 => "audio/mpeg",
            Self::M4a => "audio/mp4",
            Self::Flac => "audio/flac",
            Self::Ogg | Self::Opus => "audio/ogg",
            Self::Webm => "audio/webm",
            Self::Aac => "audio/aac",
        }
    }

    /// The name of a recording in a form. Some services read the type from its ending.
    pub const fn upload_name(self) -> &'static str {
        match self {
            Self::Png | Self::Jpeg | Self::Webp | Self::Gif => "image",
            Self::Wav => "recording.wav",
            Self::Mp3 => "recording.mp3",
            Self::M4a => "recording.m4a",
            Self::Flac => "recording.flac",
            Self::Ogg => "recording.ogg",
            Self::Opus => "recording.opus",
            Self::Webm => "recording.webm",
            Self::Aac => "recording.aac",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        for (head, expected) in [
            (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", Some("image/jpeg")),
            (b"RIFF\x24\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\x24\0\0\0WAVEfmt ", None),
            (b"GIF89a\x01\0", Some("image/gif")),
            (b"GIF88a", None),
            (b"<svg xmlns=", None),
            (b"\x89PN", None),
            (b"", None),
        ] {
            assert_eq!(AttachedKind::Image.type_of(head).map(MediaType::as_str), expected, "{head:?}");
        }
    }

    #[test]
    fn recordings_are_told_by_their_first_bytes() {
        let opus = [&b"OggS"[..], &[0; 24], b"OpusHead\x01\x02"].concat();
        let vorbis = [&b"OggS"[..], &[0; 24], b"\x01vorbis"].concat();
        for (head, expected) in [
            (&b"RIFF\x24\0\0\0WAVEfmt "[..], Some(MediaType::Wav)),
            (b"RF64\xff\xff\xff\xffWAVEds64", Some(MediaType::Wav)),
            (b"RIFF\x24\0\0\0AVI LIST", None),
            (b"ID3\x04\0\0", Some(MediaType::Mp3)),
            (b"\xff\xfb\x90\x64", Some(MediaType::Mp3)),
            (b"\xff\xf3\x40\xc4", Some(MediaType::Mp3)),
            (b"\xff\xf1\x50\x80", Some(MediaType::Aac)),
            (b"\xff\xff\xff\xff", None),
            (b"\xff\xd8\xff\xe0", None),
            (b"\0\0\0\x20ftypM4A ", Some(MediaType::M4a)),
            (b"fLaC\0\0\0\x22", Some(MediaType::Flac)),
            (&opus, Some(MediaType::Opus)),
            (&vorbis, Some(MediaType::Ogg)),
            (b"\x1a\x45\xdf\xa3", Some(MediaType::Webm)),
            (b"\x89PNG\r\n\x1a\n", None),
            (b"MThd", None),
            (b"", None),
        ] {
            assert_eq!(AttachedKind::Recording.type_of(head), expected, "{head:?}");
        }
    }
}
