"""An identity provider that gives the token's user a name that a test can look for."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.identity import PasswordIdentityProvider, User
from traitlets import Unicode


class NamedIdentityProvider(PasswordIdentityProvider):
    """Whoever has the token is `user_name`."""

    user_name = Unicode("ann", config=True, help="The user's name.")

    def generate_anonymous_user(self, handler: Any) -> User:
        name = self.user_name
        return User(
            username=name, name=name.title(), display_name=name.title(), initials=name[:1].upper()
        )


def named(user_name: str) -> dict[str, dict[str, Any]]:
    """The configuration of a server whose user has this name."""
    return {
        "ServerApp": {
            "identity_provider_class": "support.named_identity.NamedIdentityProvider",
        },
        "NamedIdentityProvider": {"user_name": user_name},
    }
