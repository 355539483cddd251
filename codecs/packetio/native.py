"""libc, libsrtp and OpenSSL as functions that compiled code calls by name.

pylibsrtp's extension module bundles libsrtp and libcrypto. `registered` tells LLVM where each name lives in this
process, so that cached code holds names and survives address randomisation. A name that is missing would end the
process at the first call: all are looked up here, at import, with a clear message. pylibsrtp is pinned to 1.0.x for
this.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding
import pylibsrtp._binding as bundle
from numba import types
from pylibsrtp._binding import ffi

_pointer, _int, _uint, _long = types.int64, types.int32, types.uint32, types.int64

_BUNDLED = (
    "srtp_protect srtp_unprotect srtp_protect_rtcp srtp_unprotect_rtcp srtp_remove_stream HMAC EVP_sha1 EVP_Cipher "
    "EVP_CIPHER_CTX_new EVP_CIPHER_CTX_free EVP_aes_128_gcm EVP_EncryptInit_ex EVP_CIPHER_CTX_get_params "
    "OpenSSL_version"
).split()
_LIBC = "recvmmsg sendmmsg sendto ppoll clock_gettime write read __errno_location".split()


def _register(library: ctypes.CDLL, names: list[str]) -> None:
    missing = [name for name in names if not hasattr(library, name)]
    if missing:
        raise ImportError(f"this build of pylibsrtp lacks {', '.join(missing)}; Weir needs pylibsrtp 1.0.x")
    for name in names:
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        llvmlite.binding.add_symbol(name, address)


library = ctypes.CDLL(bundle.__file__)
_register(library, list(_BUNDLED))
_register(ctypes.CDLL(None), _LIBC)

_F: Any = types.ExternalFunction
srtp_protect: Any = _F("srtp_protect", _int(_pointer, _pointer, _pointer))
srtp_unprotect: Any = _F("srtp_unprotect", _int(_pointer, _pointer, _pointer))
srtp_protect_rtcp: Any = _F("srtp_protect_rtcp", _int(_pointer, _pointer, _pointer))
srtp_unprotect_rtcp: Any = _F("srtp_unprotect_rtcp", _int(_pointer, _pointer, _pointer))
srtp_remove_stream: Any = _F("srtp_remove_stream", _int(_pointer, _uint))
hmac: Any = _F("HMAC", _pointer(_pointer, _pointer, _int, _pointer, _long, _pointer, _pointer))
evp_sha1: Any = _F("EVP_sha1", _pointer())
evp_cipher: Any = _F("EVP_Cipher", _int(_pointer, _pointer, _pointer, _uint))
evp_encrypt_init: Any = _F("EVP_EncryptInit_ex", _int(_pointer, _pointer, _pointer, _pointer, _pointer))
evp_get_params: Any = _F("EVP_CIPHER_CTX_get_params", _int(_pointer, _pointer))
recvmmsg: Any = _F("recvmmsg", _int(_int, _pointer, _uint, _int, _pointer))
sendmmsg: Any = _F("sendmmsg", _int(_int, _pointer, _uint, _int))
sendto: Any = _F("sendto", _long(_int, _pointer, _long, _int, _pointer, _uint))
ppoll: Any = _F("ppoll", _int(_pointer, _long, _pointer, _pointer))
clock_gettime: Any = _F("clock_gettime", _int(_int, _pointer))
write_fd: Any = _F("write", _long(_int, _pointer, _long))
read_fd: Any = _F("read", _long(_int, _pointer, _long))
errno_location: Any = _F("__errno_location", _pointer())

library.EVP_CIPHER_CTX_new.restype = ctypes.c_void_p
library.EVP_CIPHER_CTX_free.argtypes = [ctypes.c_void_p]
library.EVP_aes_128_gcm.restype = ctypes.c_void_p
library.EVP_EncryptInit_ex.argtypes = [ctypes.c_void_p] * 5


def session_pointer(session: object) -> int:
    """The native context of a pylibsrtp Session."""
    return int(ffi.cast("uintptr_t", session._srtp[0]))  # type: ignore[attr-defined]
