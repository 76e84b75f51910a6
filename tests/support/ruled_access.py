"""Who is who and who may what, read from a file at each question, so that a test can change it
while servers run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from tornado.web import HTTPError
from traitlets import Unicode


def _read(rules_file: str) -> dict[str, Any]:
    rules: dict[str, Any] = json.loads(Path(rules_file).read_text())
    return rules


class RuledIdentityProvider(IdentityProvider):
    """Tokens, and cookies named ``ruled``, stand for users."""

    rules_file = Unicode("", config=True, help="The file of `Rules`.")

    async def get_user(self, handler: Any) -> User | None:
        rules = _read(self.rules_file)
        if rules["away"]:
            raise HTTPError(503, "whoever knows the users is away")
        await asyncio.sleep(0)
        token = self.get_token(handler)
        name = rules["tokens"].get(token or handler.get_cookie("ruled", ""))
        if name is None:
            return None
        handler._token_authenticated = bool(token)
        return User(username=name)


class RuledAuthorizer(Authorizer):
    """Asks the file what a user may do with contents; everything else is allowed."""

    rules_file = Unicode("", config=True, help="The file of `Rules`.")

    async def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        await asyncio.sleep(0)
        rules = _read(self.rules_file)
        return resource != "contents" or action in rules["rights"].get(user.username, ())


class Rules:
    """The file: every user's token is ``<name>-token``. ``owner`` may do everything."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rules: dict[str, Any] = {"away": False, "tokens": {}, "rights": {}}
        self.allow("owner", "read", "write")

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(self._rules))
        draft.replace(self._path)

    def allow(self, user: str, *actions: str) -> None:
        """Let the user do exactly that with contents from now on."""
        self._rules["tokens"][f"{user}-token"] = user
        self._rules["rights"][user] = actions
        self._write()

    def forget(self, user: str) -> None:
        """The user's token and cookie are not good any more."""
        del self._rules["tokens"][f"{user}-token"]
        self._write()

    def be_away(self, away: bool) -> None:
        """Whether nobody can say who is who."""
        self._rules["away"] = away
        self._write()

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """The configuration of a server that goes by these rules."""
        module = "support.ruled_access"
        return {
            "ServerApp": {
                "identity_provider_class": f"{module}.RuledIdentityProvider",
                "authorizer_class": f"{module}.RuledAuthorizer",
            },
            "RuledIdentityProvider": {"rules_file": str(self._path)},
            "RuledAuthorizer": {"rules_file": str(self._path)},
        }
