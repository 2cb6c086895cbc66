"""``python -m tests.web.signing_in ENDPOINT CACHE``: a form whose visitors sign in, as on a Space; prints its address.

A process of its own, because gradio reads at import whether it runs on a Space, and so that all it writes can be looked
through.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gradio as gr

from lineage_plugin.web import endpoints
from lineage_plugin.web.desk import Desk
from lineage_plugin.web.jobs import Failed, Job
from lineage_plugin.web.oauth import may_sign_in, token_of
from lineage_plugin.web.settings import Settings


def main() -> None:
    """Serve until standard input ends."""
    settings = Settings(endpoint=sys.argv[1], cache=Path(sys.argv[2]), on_space=True)
    with Desk(settings) as desk:

        async def verdict(model: str, request: gr.Request, signed_in: gr.OAuthToken | None = None) -> str:
            """Say the verdict on a model."""
            token = token_of(signed_in, request, settings)
            try:
                ticket = desk.ask(Job("check", (model,)), visitor="one", token=token)
                async for _ in ticket.follow():
                    pass
                answer = ticket.answer()
            except Failed as error:
                return f"{error.why}: {error.message}"
            return "none" if answer is None else answer.result.verdict  # type: ignore[union-attr]

        with gr.Blocks() as ui:
            if may_sign_in(settings):
                gr.LoginButton()
            model, said = gr.Textbox(), gr.Textbox()
            gr.Button().click(verdict, model, said, api_name="verdict")
            endpoints.add(desk, settings)
        ui.launch(
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            server_name="127.0.0.1",
        )
        print(f"ready {ui.local_url}", flush=True)
        sys.stdin.read()
        ui.close(verbose=False)


if __name__ == "__main__":
    main()
