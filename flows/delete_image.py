"""Delete an image: it leaves every list at once; ECSs made from it live on; its bytes go when nothing refers to them."""

from __future__ import annotations

from prefect import flow

from tasks import images
from tasks.requests import AccountName, Identifier
from tasks.sagas import Call, saga
from tasks.views import ImageView


@flow(name="delete-image", flow_run_name="delete {image} for {account}", description=__doc__)
def delete_image(image: Identifier, account: AccountName = "admin") -> ImageView:
    """Delete the account's own image. Raises NotFound, or StateRefused while it is protected or being launched."""
    image_id = images.image_id_of(account, image)
    with saga(Call(kind="delete-image", account=account, facts={"image": image_id})) as held:
        return images.delete(held, image_id)
