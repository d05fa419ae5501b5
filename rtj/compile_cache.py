"""Where compiled programs are kept from one start to the next."""

import os
from pathlib import Path

import jax


def keep_compiled(folder: Path) -> None:
    """Keep them in FOLDER/.jax-cache, unless JAX_COMPILATION_CACHE_DIR says where.

    Nothing is written before the first compile.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = str(folder.absolute() / ".jax-cache")
        jax.config.update("jax_compilation_cache_dir", cache)
