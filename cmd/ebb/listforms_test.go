package main

import (
	"reflect"
	"testing"
)

func TestCSVLists(t *testing.T) {
	const list = "#TYPE Object\r\nDestination,SOURCE,Mirrors,Comment\r\n\"a,b.iso\",https://h/a,https://i/a  https://j/a,x\r\n,,,\r\n,https://h/b\r\n"
	if !isCSV("-", []byte(list)) || !isCSV("list.CSV", nil) || isCSV("list", []byte("https://h/source,\nhttps://h/b")) {
		t.Error("what is a CSV list is not told")
	}
	got, err := readCSV([]byte(list), listOfURLs)
	want := []entry{
		{line: 3, url: "https://h/a", dest: "a,b.iso", mirrors: []string{"https://i/a", "https://j/a"}},
		{line: 5, url: "https://h/b", mirrors: []string{}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "Destination\na", "Source,Destination\nhttps://h/a,../x", "Source\nftp://h/a", "Source\n\"https://h/a"} {
		if got, err := readCSV([]byte(bad), listOfURLs); err == nil {
			t.Errorf("%q gave %+v", bad, got)
		}
	}
}
