"""django-oauth-toolkit as an authorization server for tests, a Django project in one file.

The first line of stdin is a JSON object (empty so far).  One line of JSON on stdout says that it
is ready: its port and its clients.  It ends when stdin does.
"""

import json
import os
import socketserver
import sys
import tempfile
import threading
import wsgiref.simple_server
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

CLIENTS = {
    "service": ("service", "secret-of-service", "client-credentials"),
    "reserved": ('id: 100%+/?&= "né"', "s:e%20c r+et/?&='<>~é", "client-credentials"),
    "rotating": ("rotating", "secret-of-rotating", "authorization-code"),
}
ACCESS_TOKEN_LIFETIME = 60


def configure(folder: Path) -> None:
    """Set Django up, with its tables in a folder."""
    import django
    from django.conf import settings

    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
    apps = ["django.contrib.contenttypes", "django.contrib.auth", "oauth2_provider"]
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "localhost"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": folder / "db.sqlite3",
                "OPTIONS": {
                    "timeout": 60,
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA synchronous=OFF;",
                },
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=apps,
        # Tables as the models say, without replaying their history.
        MIGRATION_MODULES={app.rpartition(".")[2]: None for app in apps},
        LOGGING_CONFIG=None,
        MIDDLEWARE=[],
        OAUTH2_PROVIDER={
            "ACCESS_TOKEN_EXPIRE_SECONDS": ACCESS_TOKEN_LIFETIME,
            "ALWAYS_RELOAD_OAUTHLIB_CORE": True,
            "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "ROTATE_REFRESH_TOKEN": True,
            "SCOPES": {"read": "to read", "write": "to write"},
        },
        # What a slow hash protects from does not happen here.
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="dromos_test_urls",
        SECRET_KEY="for tests only",
        USE_TZ=True,
    )
    django.setup()


class Control:
    """What a test can see and change."""

    def __init__(self) -> None:
        from django.utils import timezone
        from oauth2_provider.models import get_application_model

        self._lock = threading.Lock()
        self._real_now = timezone.now
        self.ahead = timedelta()
        timezone.now = self.now
        for client_id, secret, grant_type in CLIENTS.values():
            get_application_model().objects.create(
                client_id=client_id,
                client_secret=secret,
                client_type="confidential",
                authorization_grant_type=grant_type,
                redirect_uris="https://agent.example/",
            )
        self.reset()

    def now(self) -> Any:
        return self._real_now() + self.ahead

    def refusal(self, grant_type: str) -> dict[str, Any] | None:
        """Count a token request, and say how it has to fail if it has to."""
        with self._lock:
            self.seen.append(grant_type)
            for failure in self.failures:
                if failure["times"] and failure["grant_type"] in (None, grant_type):
                    failure["times"] -= 1
                    return failure
        return None

    # --- Commands -----------------------------------------------------------------------------

    def reset(self) -> None:
        from oauth2_provider.models import get_access_token_model, get_refresh_token_model

        get_refresh_token_model().objects.all().delete()
        get_access_token_model().objects.all().delete()
        self.seen: list[str] = []
        self.failures: list[dict[str, Any]] = []
        self.ahead = timedelta()
        self.configure(lifetimes={"access": ACCESS_TOKEN_LIFETIME}, grace=0)

    def configure(
        self, *, lifetimes: dict[str, float] | None = None, grace: float | None = None
    ) -> None:
        from oauth2_provider.settings import oauth2_settings

        if lifetimes:
            oauth2_settings.ACCESS_TOKEN_EXPIRE_SECONDS = lifetimes["access"]
        if grace is not None:
            oauth2_settings.REFRESH_TOKEN_GRACE_PERIOD_SECONDS = grace

    def advance(self, *, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)

    def fail(self, **failure: Any) -> None:
        self.failures.append(failure)

    def posts(self) -> list[str]:
        return self.seen

    def grant(self, *, client: str, scope: str) -> dict[str, str]:
        import uuid

        from django.contrib.auth import get_user_model
        from oauth2_provider.models import (
            get_access_token_model,
            get_application_model,
            get_refresh_token_model,
        )

        user, _ = get_user_model().objects.get_or_create(username="someone")
        application = get_application_model().objects.get(client_id=CLIENTS[client][0])
        access = get_access_token_model().objects.create(
            application=application,
            expires=self.now() + timedelta(seconds=ACCESS_TOKEN_LIFETIME),
            scope=scope,
            token=uuid.uuid4().hex,
            user=user,
        )
        refresh = get_refresh_token_model().objects.create(
            access_token=access,
            application=application,
            token=uuid.uuid4().hex,
            token_family=uuid.uuid4(),
            user=user,
        )
        return {"refresh_token": refresh.token, "access_token": access.token}

    def alive(self, *, token: str) -> bool:
        from oauth2_provider.models import get_access_token_model, get_refresh_token_model

        access = get_access_token_model().objects.filter(token=token).first()
        if access is not None:
            return not access.is_expired()
        return get_refresh_token_model().objects.filter(token=token, revoked=None).exists()

    def revoke(self, *, token: str) -> None:
        from django.db.models import Q
        from oauth2_provider.models import get_refresh_token_model

        model = get_refresh_token_model()
        model.objects.get(Q(token=token) | Q(access_token__token=token)).revoke()


def urls() -> list[Any]:
    from django.http import HttpResponse, JsonResponse
    from django.urls import include, path
    from django.utils.http import http_date
    from django.views.decorators.csrf import csrf_exempt
    from oauth2_provider.urls import metadata_urlpatterns
    from oauth2_provider.views import TokenView

    control = Control()
    issue = TokenView.as_view()

    def dated(view: Callable[..., Any]) -> Callable[..., Any]:
        def answer(request: Any, **parts: Any) -> Any:
            response = view(request, **parts)
            response["Date"] = http_date(control.now().timestamp())
            return response

        return csrf_exempt(answer)

    def token(request: Any) -> Any:
        failure = control.refusal(request.POST.get("grant_type", ""))
        if failure is None:
            return issue(request)
        headers = failure["headers"]
        return HttpResponse(failure["body"], status=failure["status"], headers=headers)

    def command(request: Any, name: str) -> Any:
        try:
            result = getattr(control, name)(**json.loads(request.body))
        except Exception as error:
            return JsonResponse(repr(error), status=500, safe=False)
        return JsonResponse(result, safe=False)

    return [
        path("o/token/", dated(token)),
        path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
        # Where RFC 8414 looks for the metadata of an issuer with a path.
        path("", include((metadata_urlpatterns, "metadata"))),
        path("test/<name>", csrf_exempt(command)),
    ]


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """One thread a request."""

    daemon_threads = True
    request_queue_size = 128


class RequestHandler(wsgiref.simple_server.WSGIRequestHandler):
    """Quiet, and asks no DNS."""

    def log_message(self, *_: Any) -> None: ...

    def address_string(self) -> str:
        return str(self.client_address[0])


def main() -> None:
    sys.stdin.buffer.readline()
    with tempfile.TemporaryDirectory(prefix="dromos-toolkit-") as folder:
        configure(Path(folder))
        from django.core.management import call_command
        from django.core.wsgi import get_wsgi_application

        call_command("migrate", run_syncdb=True, verbosity=0)
        module = type(sys)("dromos_test_urls")
        module.urlpatterns = urls()  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
        with Server(("127.0.0.1", 0), RequestHandler) as server:
            server.set_app(get_wsgi_application())
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            clients = {name: {"id": row[0], "secret": row[1]} for name, row in CLIENTS.items()}
            ready = {"http": server.server_port, "clients": clients}
            print(json.dumps(ready), flush=True)
            sys.stdin.buffer.read()
            server.shutdown()


if __name__ == "__main__":
    main()
