from django.http import JsonResponse
from django.urls import path

from notes.models import Note


def add(request, text):
    return JsonResponse({"id": Note.objects.create(text=text).id, "count": Note.objects.count()})


urlpatterns = [path("add/<str:text>", add)]
