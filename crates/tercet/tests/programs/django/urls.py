from django.http import HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path

from notes.models import Note


def health(request):
    return HttpResponse("ok")


def token(request):
    return HttpResponse(get_token(request))


def add(request, text):
    return JsonResponse({"id": Note.objects.create(text=text).id, "count": Note.objects.count()})


urlpatterns = [path("health", health), path("token", token), path("add/<str:text>", add)]
