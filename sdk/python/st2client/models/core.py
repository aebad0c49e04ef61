"""Resources, and the managers that fetch and store them."""

from typing import Any, Dict, List, Optional, Tuple, Type
from urllib.parse import quote

from st2client.utils.httpclient import HTTPClient, Response

__all__ = ["Resource", "ResourceManager"]

# What goes with the request, not into its query.
_OPTIONS = ("token", "api_key", "headers", "auth", "timeout")


class Resource:
    """What the API shows, as attributes."""

    _alias: Optional[str] = None
    _display_name: Optional[str] = None
    _plural: Optional[str] = None
    _plural_display_name: Optional[str] = None
    _url_path: Optional[str] = None

    def __init__(self, *_args: Any, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)

    def to_dict(self, exclude_attributes: Optional[List[str]] = None) -> Dict[str, Any]:
        left_out = exclude_attributes or ()
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def serialize(self) -> Dict[str, Any]:
        """What is sent: attributes whose names don't begin with an underscore."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    @classmethod
    def deserialize(cls, doc: Dict[str, Any]) -> "Resource":
        return cls(**doc)

    @classmethod
    def get_alias(cls) -> str:
        return cls._alias or cls.__name__

    @classmethod
    def get_display_name(cls) -> str:
        return cls._display_name or cls.__name__

    @classmethod
    def get_plural_name(cls) -> str:
        return cls._plural or cls.__name__ + "s"

    @classmethod
    def get_plural_display_name(cls) -> str:
        return cls._plural_display_name or cls.get_plural_name()

    @classmethod
    def get_url_path_name(cls) -> str:
        return cls._url_path or cls.get_plural_name().lower()

    def __repr__(self) -> str:
        shown = getattr(self, "ref", None) or getattr(self, "name", None) or getattr(self, "id", None)
        return "<%s %s>" % (type(self).__name__, shown)


class ResourceManager:
    """One kind of resource below the API's address."""

    def __init__(self, resource: Type[Resource], client: HTTPClient) -> None:
        self.resource = resource
        self.client = client

    @property
    def path(self) -> str:
        return "/" + self.resource.get_url_path_name()

    def get_all(
        self,
        limit: Optional[int] = None,
        pack: Optional[str] = None,
        prefix: Optional[str] = None,
        user: Optional[str] = None,
        offset: Optional[int] = None,
        params: Optional[Dict[str, Any]] = None,
        **options: Any
    ) -> List[Any]:
        own = {"limit": limit, "pack": pack, "prefix": prefix, "user": user, "offset": offset}
        query = dict(params or {}, **{name: value for name, value in own.items() if value})
        answer = self._checked(self.client.get(self.path, params=query, **options))
        return [self.resource.deserialize(item) for item in answer.json()]

    def get_by_id(self, id: str, **options: Any) -> Any:  # noqa: A002 - the name that packs use
        """None if there is none."""
        return self._one(self.client.get(self._item(id), **options))

    def get_by_ref_or_id(self, ref_or_id: str, **options: Any) -> Any:
        return self.get_by_id(ref_or_id, **options)

    def get_property(self, id_: str, property_name: str, self_deserialize: bool = True, **options: Any) -> Any:
        answer = self.client.get("%s/%s/" % (self._item(id_), property_name), **options)
        if answer.status_code == 404:
            return None
        found = self._checked(answer).json()
        if self_deserialize:
            return [self.resource.deserialize(item) for item in found]
        return found

    def query(self, **query: Any) -> List[Any]:
        return self.query_with_count(**query)[0]

    def query_with_count(self, **query: Any) -> Tuple[List[Any], Optional[int]]:
        """The list, and how many there are in all."""
        options = _take_options(query)
        params = dict(query.pop("params", None) or {}, **query)
        answer = self.client.get(self.path + "/", params=params, **options)
        if answer.status_code == 404:
            return [], 0
        self._checked(answer)
        count = answer.headers.get("X-Total-Count")
        return [self.resource.deserialize(item) for item in answer.json()], int(count) if count else None

    def get_by_name(self, name: str, **query: Any) -> Any:
        """The only one of that name, or None."""
        found = self.query(name=name, **query)
        if len(found) > 1:
            kind = self.resource.__name__.lower()
            raise Exception('More than one %s named "%s" are found.' % (kind, name))
        return found[0] if found else None

    def create(self, instance: Resource, **options: Any) -> Any:
        return self._made(self.client.post(self.path, instance.serialize(), **options))

    def update(self, instance: Any, **options: Any) -> Any:
        return self._made(self.client.put(self._item(instance.id), instance.serialize(), **options))

    def delete(self, instance: Any, **options: Any) -> Any:
        return self.delete_by_id(instance.id, **options)

    def delete_by_id(self, instance_id: str, **options: Any) -> Any:
        """True, or what the API says about it; one that isn't there counts as deleted."""
        answer = self.client.delete(self._item(instance_id), **options)
        if answer.status_code not in (200, 204, 404):
            answer.raise_for_status()
        if answer.status_code == 200 and answer.text:
            return answer.json()
        return True

    def _item(self, id_: Any) -> str:
        return "%s/%s" % (self.path, quote(str(id_), safe=":"))

    @staticmethod
    def _checked(answer: Response) -> Response:
        answer.raise_for_status()
        return answer

    def _made(self, answer: Response) -> Any:
        return self.resource.deserialize(self._checked(answer).json())

    def _one(self, answer: Response) -> Any:
        return None if answer.status_code == 404 else self._made(answer)


def _take_options(query: Dict[str, Any]) -> Dict[str, Any]:
    return {name: query.pop(name) for name in _OPTIONS if name in query}
