"""How the page looks, and that it asks nobody but its own server for anything."""

from typing import Any

__all__ = ['CSS', 'HEAD', 'THEME_FONTS', 'keep_to_itself']

THEME_FONTS = ['system-ui', 'sans-serif']  # those of the machine: Gradio's own default is fetched from the network

CSS = """
.gradio-container .prose h1 { font-size: 1.5rem; margin: 0 0 .25rem }
.gradio-container .prose h2 { font-size: 1.05rem; margin: .4rem 0 0 }
.gradio-container .html-container { padding: 0 }
#sites .caption-label { display: none } /* it would lie on the legend; pictures have their titles */
.faint { opacity: .72; font-size: .85rem; margin: .15rem 0; overflow-wrap: anywhere }
.warning {
  background: #fff3cd; color: #5c4400; border: 1px solid #e0b93f; border-radius: 6px;
  padding: .5rem .75rem; margin: .4rem 0
}
#agreement { font-size: 1.05rem }
.gradio-container .prose table.costs { border-collapse: collapse; width: 100%; margin: .25rem 0 }
.gradio-container .prose table.costs, .gradio-container .prose table.costs * { border: 0 }
.gradio-container .prose table.costs :is(th, td) {
  border-bottom: 1px solid var(--border-color-primary); padding: .35rem .5rem; text-align: right
}
.gradio-container .prose table.costs th:first-child { text-align: left; font-weight: 600 }
table.costs .number { white-space: nowrap; font-variant-numeric: tabular-nums }
table.costs .spread { opacity: .72; font-size: .8rem; white-space: nowrap }
table.costs .gain { font-weight: 600; color: var(--color-accent) }
#sites .grid-wrap { max-height: none }
#sites .thumbnail-lg { aspect-ratio: auto; height: auto }
@media (min-width: 900px) { .sticky { position: sticky; top: 0; align-self: flex-start } }
@media (max-width: 600px) {
  .gradio-container .prose table.costs :is(th, td) { padding: .3rem .2rem; font-size: .8rem }
  table.costs .spread { display: block }
}
"""

# A slider tells when a pointer lets go of it, so keys that move it have to say so too.
HEAD = """
<script>
document.addEventListener('keyup', (event) => {
  const input = event.target;
  if (!(input instanceof HTMLInputElement)) return;
  if (input.type === 'range' && /^(Arrow|Page|Home|End)/.test(event.key)) {
    input.dispatchEvent(new PointerEvent('pointerup', { bubbles: true }));
  } else if (input.type === 'number' && event.key === 'Enter') {
    input.blur();
  }
});
</script>
"""

_OWN = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"


def keep_to_itself() -> list[Any]:
    """Middleware that forbids the browser to load anything from elsewhere, which Gradio's page would try."""
    from starlette.middleware import Middleware

    return [Middleware(_Header)]


class _Header:
    """Adds a content security policy to every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message['type'] == 'http.response.start':
                message = {
                    **message,
                    'headers': [*message.get('headers', []), (b'content-security-policy', _OWN.encode())],
                }
            await send(message)

        await self._app(scope, receive, send_with_policy)
