"""The file id manager that Jupyter asks, for shared documents and for all others."""

from __future__ import annotations

from typing import Any

from jupyter_server_fileid.manager import BaseFileIdManager

from .file_ids import FileRegistry


def shared_manager(
    base: type[BaseFileIdManager], registry: FileRegistry
) -> type[BaseFileIdManager]:
    """Return a file id manager that asks `registry` about what is shared, and is a `base` for
    everything else."""

    class SharedFileIdManager(base):  # type: ignore[misc, valid-type]
        def index(self, path: str, *args: Any, **keywords: Any) -> str | None:
            shared = registry.locate(path)
            if shared is None:
                return super().index(path, *args, **keywords)  # type: ignore[no-any-return]
            return registry.index(shared)

        def get_id(self, path: str) -> str | None:
            shared = registry.locate(path)
            if shared is None:
                return super().get_id(path)  # type: ignore[no-any-return]
            return registry.get_id(shared)

        def get_path(self, id: str) -> str | None:
            path = registry.api_path(id)
            return super().get_path(id) if path is None else path

        def move(self, old_path: str, new_path: str) -> str | None:
            old, new = registry.locate(old_path), registry.locate(new_path)
            if old is not None and new is not None and old.share == new.share:
                return registry.move(old, new)
            if old is not None:
                registry.delete(old)
            elif new is not None:
                super().delete(old_path)
            else:
                return super().move(old_path, new_path)  # type: ignore[no-any-return]
            return self.index(new_path)

        def copy(self, from_path: str, to_path: str) -> str | None:
            if registry.locate(to_path) is None:
                return super().copy(from_path, to_path)  # type: ignore[no-any-return]
            return self.index(to_path)

        def delete(self, path: str) -> None:
            shared = registry.locate(path)
            if shared is None:
                super().delete(path)
            else:
                registry.delete(shared)

        def save(self, path: str) -> str | None:
            if registry.locate(path) is None:
                return super().save(path)  # type: ignore[no-any-return]
            return None

    return SharedFileIdManager
