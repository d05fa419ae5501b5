"""Where compiled programs are kept from one start to the next."""

import os
from pathlib import Path

import jax


def keep_compiled(folder: Path) -> Path | None:
    """Keep them in FOLDER/.jax-cache, unless JAX_COMPILATION_CACHE_DIR says where.

    Returns the folder in it for whole programs (`rtj.kept_programs`); None if that
    would be in a bucket, which only JAX itself can use.

    All are kept, unless JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS says which: JAX's
    default leaves out what compiles within a second, and with it the program that
    makes the digits' first state, 0.7 CPU seconds of a warm start.

    Nothing is written before the first compile.
    """
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if cache is None:
        cache = str(folder.absolute() / ".jax-cache")
        jax.config.update("jax_compilation_cache_dir", cache)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return None if "://" in cache or not cache else Path(cache) / "rtj-programs"
