"""Import from the inbox: one object that was announced, by the store's notification or by the sweep, becomes an image.

Its sidecar says how; what became of it is left beside it. A version of an object is imported once, however often it is
announced and killed; a refusal stands until its result is removed or its sidecar or the object is changed.
Needs what `import-image` needs.
"""

from __future__ import annotations

from prefect import flow

from flows.import_image import import_image
from tasks import announcing
from tasks.inboxes import InboxView, State
from tasks.requests import AccountName, InboxKey


@flow(name="import-announced", flow_run_name="import {key} from the inbox of {account}", description=__doc__)
def import_announced(key: InboxKey, account: AccountName = "admin") -> InboxView:
    """Import what is due. Raises SourceRefused where nothing is there, and whatever the import raises."""
    seen = announcing.look(account, key)
    if seen.state is not State.DUE and seen.state is not State.PAUSED:
        return announcing.report_object(seen)
    with announcing.claimed(seen) as held:
        if held is None:
            return announcing.report_object(seen, taken=True)
        image = None
        if held.result is None:
            image = import_image(**announcing.read_request(held, seen))
        return announcing.leave_result(held, seen, image)
