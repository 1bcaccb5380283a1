use std::io;

use thiserror::Error;

pub type Result<T> = std::result::Result<T, Error>;

/// Why a packet led to nothing. None of it is told to the client, but for the code of an error response.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    #[error("channel number not in [0x4000, 0x7FFF]")]
    ErrInvalidChannelNumber,
    #[error("channelData length != len(Data)")]
    ErrBadChannelDataLength,
    #[error("unexpected EOF")]
    ErrUnexpectedEof,
    #[error("you cannot use the same channel number with different peer")]
    ErrSameChannelDifferentPeer,
    #[error("unexpected class")]
    ErrUnexpectedClass,
    #[error("no allocation found")]
    ErrNoAllocationFound,
    #[error("unable to handle send-indication, no permission added")]
    ErrNoPermission,
    #[error("no such channel bind")]
    ErrNoSuchChannelBind,
    #[error("the peer is denied")]
    ErrDenied,
    #[error("too many permissions or channels, or too many bytes")]
    ErrQuota,
    #[error("refused with code {0}")]
    Refused(u16),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Stun(#[from] crate::stun::Error),
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}
